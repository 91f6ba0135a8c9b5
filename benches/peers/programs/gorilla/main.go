// Counts page views with gorilla's FilesystemStore, under FastCGI and as CGI.
package main

import (
	"fmt"
	"log"
	"net/http"
	"net/http/cgi"
	"net/http/fcgi"
	"os"

	"github.com/gorilla/sessions"
)

var visitor = map[string]string{
	"name":     "Ada Lovelace",
	"mail":     "ada.lovelace@example.org",
	"language": "en-GB,en;q=0.8,fr;q=0.5",
	"address":  "12 St James's Square, London SW1Y 4LE, United Kingdom",
	"basket":   "4711:1,4712:3,4713:2,4714:1,4715:5,4716:1,4717:2,4718:4",
	"seen":     "/,/books,/books/4711,/books/4712,/basket,/books/4713,/basket,/books/4714,/checkout",
	"agent":    "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0",
	"theme":    "dark",
	"note":     "Please leave the parcel with the neighbours",
}

var store = sessions.NewFilesystemStore(os.Getenv("SESSION_DIRECTORY"), []byte("the same in every process, no secret"))

func count(response http.ResponseWriter, request *http.Request) {
	// What cannot be read gives an error and a new session.
	session, _ := store.Get(request, "session")
	views, _ := session.Values["pageViews"].(int)
	views++
	if views == 1 {
		for key, value := range visitor {
			session.Values[key] = value
		}
	}
	session.Values["pageViews"] = views
	if err := session.Save(request, response); err != nil {
		http.Error(response, err.Error(), http.StatusInternalServerError)
		return
	}
	response.Header().Set("Content-Type", "text/html; charset=utf-8")
	fmt.Fprintf(response, "<!doctype html>\n<title>Counter</title>\n<p>Hello, you've been here %d time(s)</p>\n", views)
}

func main() {
	handler := http.HandlerFunc(count)
	if os.Getenv("GATEWAY_INTERFACE") != "" {
		log.Fatal(cgi.Serve(handler))
	}
	// Without a listener it is descriptor 0.
	log.Fatal(fcgi.Serve(nil, handler))
}
