/* The least that a page-view counter can do under FastCGI: libfcgi, one file per visitor, flock,
   and a number written over the one before. A kill or a full disk destroys it; nothing is faster. */

#include <fcgi_stdio.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

static long count(const char *directory, const char *cookies, char *id)
{
    char path[512], text[512];
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
    flock(file, LOCK_EX);
    ssize_t length = read(file, text, sizeof text - 1);
    text[length > 0 ? length : 0] = 0;
    const char *views = strstr(text, "\"pageViews\":");
    long number = (views ? atol(views + 12) : 0) + 1;
    int written = snprintf(text, sizeof text, "{\"v\":1,\"created\":1767225600,\"values\":{\"\":{\"pageViews\":%-12ld}}}", number);
    if (pwrite(file, text, written, 0) != written) number = -1;
    close(file);
    return number;
}

int main(void)
{
    const char *directory = getenv("FLOOR_DIRECTORY");
    char id[64], body[512];
    while (FCGI_Accept() >= 0) {
        long views = count(directory, getenv("HTTP_COOKIE"), id);
        int length = snprintf(body, sizeof body,
            "<!doctype html>\n<title>Counter</title>\n<p>Hello, you've been here %ld time(s)</p>\n", views);
        printf("Content-Type: text/html; charset=utf-8\r\nContent-Length: %d\r\n", length);
        if (views == 1) printf("Set-Cookie: sessionId=%s; HttpOnly; SameSite=Lax; Path=/\r\n", id);
        printf("Cache-Control: no-store\r\nVary: Cookie\r\n\r\n%s", body);
    }
    return 0;
}
