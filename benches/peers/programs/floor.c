/* The least that a page-view counter can do: one file per visitor, flock, and the text written over the
   one before in one call. Under FastCGI by libfcgi; with PLAIN_CGI a CGI program without any library.

   NO_LOCK and TORN break it on purpose: a harness that does not see these two lose something cannot see
   anybody lose something. */

#ifdef PLAIN_CGI
#include <stdio.h>
#else
#include <fcgi_stdio.h>
#endif
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#define STORED \
    "{\"pageViews\":%-12ld,\"name\":\"Ada Lovelace\",\"mail\":\"ada.lovelace@example.org\"," \
    "\"language\":\"en-GB,en;q=0.8,fr;q=0.5\"," \
    "\"address\":\"12 St James's Square, London SW1Y 4LE, United Kingdom\"," \
    "\"basket\":\"4711:1,4712:3,4713:2,4714:1,4715:5,4716:1,4717:2,4718:4\"," \
    "\"seen\":\"/,/books,/books/4711,/books/4712,/basket,/books/4713,/basket,/books/4714,/checkout\"," \
    "\"agent\":\"Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0\"," \
    "\"theme\":\"dark\",\"note\":\"Please leave the parcel with the neighbours\"}"

static int save(int file, const char *text, int length)
{
#ifdef TORN
    if (ftruncate(file, 0) != 0) return 0;
    for (int at = length; at-- > 0;)
        if (pwrite(file, text + at, 1, at) != 1) return 0;
    return 1;
#else
    return pwrite(file, text, length, 0) == length;
#endif
}

static long count(const char *directory, const char *cookies, char *id)
{
    char path[512], text[1024];
    const char *cookie = cookies ? strstr(cookies, "sessionId=") : NULL;
    int fresh = !cookie || strlen(cookie) < 50;
    if (fresh) {
        unsigned char random[20];
        int source = open("/dev/urandom", O_RDONLY);
        if (read(source, random, sizeof random) != sizeof random) exit(1);
        close(source);
        for (int i = 0; i < 20; i++) sprintf(id + 2 * i, "%02x", random[i]);
    } else {
        memcpy(id, cookie + 10, 40);
    }
    id[40] = 0;
    if (strspn(id, "0123456789abcdef") != 40) return -1;
    snprintf(path, sizeof path, "%s/%s.json", directory, id);
    int file = open(path, O_RDWR | O_CLOEXEC | (fresh ? O_CREAT | O_EXCL : 0), 0600);
    if (file < 0) return -1;
#ifndef NO_LOCK
    flock(file, LOCK_EX);
#endif
    ssize_t length = read(file, text, sizeof text - 1);
    text[length > 0 ? length : 0] = 0;
    const char *views = strstr(text, "\"pageViews\":");
    long number = (views ? atol(views + 12) : 0) + 1;
    int written = snprintf(text, sizeof text, STORED, number);
#ifdef NO_LOCK
    usleep(200); /* As long as a page takes to make. */
#endif
    if (!save(file, text, written)) number = -1;
    close(file);
    return number;
}

static void answer(const char *directory)
{
    char id[64], body[512];
    long views = count(directory, getenv("HTTP_COOKIE"), id);
    int length = snprintf(body, sizeof body,
        "<!doctype html>\n<title>Counter</title>\n<p>Hello, you've been here %ld time(s)</p>\n", views);
    printf("Content-Type: text/html; charset=utf-8\r\nContent-Length: %d\r\n", length);
    if (views == 1) printf("Set-Cookie: sessionId=%s; HttpOnly; SameSite=Lax; Path=/\r\n", id);
    printf("Cache-Control: no-store\r\nVary: Cookie\r\n\r\n%s", body);
}

int main(void)
{
    const char *directory = getenv("SESSION_DIRECTORY");
#ifdef PLAIN_CGI
    answer(directory);
#else
    while (FCGI_Accept() >= 0) answer(directory);
#endif
    return 0;
}
