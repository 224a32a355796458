/* Very many WebSocket clients on one core, who note how old each message is when they read it.

   load_client PORT PATH SOCKETS STALLED SECONDS MARKER [REQUEST…]

   The sockets send one REQUEST each, in turn; the last STALLED of them never read. Behind MARKER a message has the moment
   it was made, in seconds of CLOCK_MONOTONIC. A line `seated` tells that every socket is connected, a line `ready` that
   every socket has had a message; at a line of input the measured SECONDS begin, and end in a line of JSON. A moment that
   a socket has had already is no news to it. Pings are answered, what the server closes is counted as lost. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { AT_ONCE = 64, EVENTS = 512, CHUNK = 65536, PATIENCE_US = 60000000 };
enum { NARROW = 4096, SEGMENT = 1400 }; /* bytes that a stalled client's kernel takes, as from far away */
enum { TEXT = 1, CLOSE = 8, PING = 9 };

struct client {
    int fd, open, upgraded, stalled;
    const char *request;
    char *kept; /* what has come and is not a whole frame yet */
    size_t length, room;
    int64_t last; /* the newest moment it has read */
};

static struct client *clients;
static const char *marker;
static int epoll, sockets, upgraded, heard, lost, measuring;
static uint32_t *ages;
static size_t count, room, bytes;

static int64_t now_us(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * INT64_C(1000000) + time.tv_nsec / 1000;
}

static void give_up(const char *why)
{
    fprintf(stderr, "load_client: %s: %s (%d upgraded, %d heard, %d lost of %d)\n", why, strerror(errno), upgraded, heard,
            lost, sockets);
    exit(1);
}

static void say(struct client *client, int opcode, const char *text, size_t length)
{
    char frame[8 + CHUNK] = {(char)(0x80 | opcode)};
    size_t head = 2;
    if (length < 126) {
        frame[1] = (char)(0x80 | length);
    } else {
        frame[1] = (char)(0x80 | 126), frame[2] = (char)(length >> 8), frame[3] = (char)length;
        head = 4;
    }
    head += 4; /* a mask of zeros changes nothing */
    memcpy(frame + head, text, length);
    if (send(client->fd, frame, head + length, MSG_NOSIGNAL) != (ssize_t)(head + length))
        give_up("a request could not be sent");
}

static void start(struct client *client, int port, const char *path)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = client};
    char request[1024];
    int yes = 1, narrow = NARROW, segment = SEGMENT;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    client->fd = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    if (client->stalled) {
        setsockopt(client->fd, SOL_SOCKET, SO_RCVBUF, &narrow, sizeof narrow);
        setsockopt(client->fd, IPPROTO_TCP, TCP_MAXSEG, &segment, sizeof segment);
    }
    if (client->fd < 0 || connect(client->fd, (struct sockaddr *)&address, sizeof address))
        give_up("no connection");
    int length = snprintf(request, sizeof request,
                          "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                          "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
                          path, port);
    if (send(client->fd, request, length, MSG_NOSIGNAL) != length || epoll_ctl(epoll, EPOLL_CTL_ADD, client->fd, &event))
        give_up("no handshake");
    client->open = 1;
}

static void leave(struct client *client)
{
    close(client->fd);
    client->open = 0;
    lost++;
}

static int64_t moment(const char *text, const char *end)
{
    int64_t value = 0;
    int digits = -1; /* behind the point */
    if (text < end && *text == '"')
        text++;
    for (; text < end && digits < 6 && ((*text >= '0' && *text <= '9') || *text == '.'); text++) {
        if (*text == '.') {
            digits = 0;
            continue;
        }
        value = value * 10 + (*text - '0');
        digits += digits >= 0;
    }
    for (digits = digits < 0 ? 0 : digits; digits < 6; digits++)
        value *= 10;
    return value;
}

static void hear(struct client *client, const char *text, size_t length)
{
    const char *found = memmem(text, length, marker, strlen(marker));
    if (!found)
        return;
    int64_t made = moment(found + strlen(marker), text + length), now = now_us();
    if (made <= client->last || made > now)
        return;
    heard += client->last == 0;
    client->last = made;
    if (!measuring)
        return;
    if (count == room && !(ages = realloc(ages, (room = room * 2 + CHUNK) * sizeof *ages)))
        give_up("no memory");
    ages[count++] = (uint32_t)(now - made);
    bytes += length;
}

/* The whole frames at the head of what was kept; answers how many bytes they were. */
static size_t frames(struct client *client)
{
    const unsigned char *kept = (const unsigned char *)client->kept;
    size_t used = 0;
    while (client->length - used >= 2) {
        size_t head = 2, length = kept[used + 1] & 127, extended = length == 126 ? 2 : length == 127 ? 8 : 0;
        if (client->length - used < head + extended)
            break;
        if (extended)
            length = 0;
        for (; extended; extended--)
            length = length << 8 | kept[used + head++];
        if (client->length - used < head + length)
            break;
        const char *text = client->kept + used + head;
        int opcode = kept[used] & 15;
        if (opcode == TEXT)
            hear(client, text, length);
        else if (opcode == PING)
            say(client, 10, text, length);
        used += head + length;
        if (opcode == CLOSE) {
            leave(client);
            break;
        }
    }
    return used;
}

static void upgrade(struct client *client)
{
    static const char welcome[] = "HTTP/1.1 101";
    char *end = memmem(client->kept, client->length, "\r\n\r\n", 4);
    if (!end)
        return;
    if (memcmp(client->kept, welcome, sizeof welcome - 1)) {
        fprintf(stderr, "%.*s\n", (int)client->length, client->kept);
        give_up("no upgrade");
    }
    client->length -= end + 4 - client->kept;
    memmove(client->kept, end + 4, client->length);
    client->upgraded = 1;
    upgraded++;
    if (client->request)
        say(client, TEXT, client->request, strlen(client->request));
    if (client->stalled) {
        epoll_ctl(epoll, EPOLL_CTL_DEL, client->fd, NULL);
        heard++; /* nobody waits for it */
    }
}

static void take(struct client *client)
{
    if (client->room - client->length < CHUNK / 8 &&
        !(client->kept = realloc(client->kept, client->room = client->room * 2 + CHUNK / 8)))
        give_up("no memory");
    ssize_t got = recv(client->fd, client->kept + client->length, client->room - client->length, MSG_DONTWAIT);
    if (got < 0 && errno == EAGAIN)
        return;
    if (got <= 0) {
        leave(client);
        return;
    }
    client->length += got;
    if (!client->upgraded)
        upgrade(client);
    size_t used = client->upgraded ? frames(client) : 0;
    client->length -= used;
    memmove(client->kept, client->kept + used, client->length);
}

static int older(const void *one, const void *other)
{
    uint32_t a = *(const uint32_t *)one, b = *(const uint32_t *)other;
    return (a > b) - (a < b);
}

static double cpu_seconds(void)
{
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return used.ru_utime.tv_sec + used.ru_stime.tv_sec + (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
}

static void report(double seconds, double cpu)
{
    qsort(ages, count, sizeof *ages, older);
    double p50 = count ? ages[count / 2] / 1e3 : 0, p99 = count ? ages[(size_t)(count * 0.99)] / 1e3 : 0;
    printf("{\"messages\":%zu,\"seconds\":%.3f,\"p50_ms\":%.3f,\"p99_ms\":%.3f,\"max_ms\":%.3f,\"size\":%.1f,"
           "\"cpu_seconds\":%.3f,\"lost\":%d}\n",
           count, seconds, p50, p99, count ? ages[count - 1] / 1e3 : 0, count ? (double)bytes / count : 0, cpu, lost);
}

static int tell(const char *word)
{
    puts(word);
    fflush(stdout);
    return 1;
}

int main(int words, char **word)
{
    if (words < 7) {
        fputs("load_client PORT PATH SOCKETS STALLED SECONDS MARKER [REQUEST...]\n", stderr);
        return 2;
    }
    sockets = atoi(word[3]);
    marker = word[6];
    clients = calloc(sockets, sizeof *clients);
    epoll = epoll_create1(0);
    struct epoll_event events[EVENTS], input = {.events = EPOLLIN};
    int started = 0, seated = 0, ready = 0, stalled = atoi(word[4]);
    int64_t patience = now_us() + PATIENCE_US, end = INT64_MAX, first = 0;
    double cpu = 0;
    while (now_us() < end) {
        for (; started < sockets && started - upgraded < AT_ONCE; started++) {
            clients[started].request = words > 7 ? word[7 + started % (words - 7)] : NULL;
            clients[started].stalled = started >= sockets - stalled;
            start(&clients[started], atoi(word[1]), word[2]);
        }
        int some = epoll_wait(epoll, events, EVENTS, 10);
        for (int i = 0; i < some; i++) {
            struct client *client = events[i].data.ptr;
            if (!client) { /* the line of input */
                epoll_ctl(epoll, EPOLL_CTL_DEL, STDIN_FILENO, NULL);
                measuring = 1, first = now_us(), end = first + (int64_t)(atof(word[5]) * 1e6), cpu = cpu_seconds();
            } else if (client->open) {
                take(client);
            }
        }
        if (!seated && upgraded == sockets) {
            patience = now_us() + PATIENCE_US;
            seated = tell("seated");
        }
        if (!ready && heard == sockets) {
            epoll_ctl(epoll, EPOLL_CTL_ADD, STDIN_FILENO, &input);
            ready = tell("ready");
        }
        if (!ready && now_us() > patience)
            give_up("not everyone has heard something in time");
    }
    report((now_us() - first) / 1e6, cpu_seconds() - cpu);
}
