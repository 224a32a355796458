/* Thousands of WebSocket clients on one core, which record the age of each message when they read it.

   load_client PORT PATH SOCKETS STALLED SECONDS MARKER [REQUEST…]

   Each socket sends one REQUEST, in turn; the last STALLED sockets never read. After MARKER a message contains the time
   at which it was made, in seconds of CLOCK_MONOTONIC. The program prints the line `connected` when every socket is
   connected, and `ready` when every socket has received a message. A line of input begins the measurement of SECONDS,
   whose result is printed as JSON. A message with a time that a socket has received before is not counted. Pings are
   answered. A connection closed by the server is counted as lost. */

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

enum { AT_ONCE = 64, EVENTS = 512, CHUNK = 65536, TIMEOUT_US = 60000000 };
enum { NARROW = 4096, SEGMENT = 1400 }; /* buffer and segment of a stalled client, as on a slow network */
enum { TEXT = 1, CLOSE = 8, PING = 9 };

struct client {
    int fd, open, upgraded, stalled;
    const char *request;
    char *buffer; /* bytes that are not a whole frame yet */
    size_t length, room;
    int64_t last; /* the newest time received */
};

static struct client *clients;
static const char *marker;
static int epoll, sockets, upgraded, receiving, lost, measuring;
static uint32_t *ages;
static size_t count, room, bytes;

static int64_t now_us(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * INT64_C(1000000) + time.tv_nsec / 1000;
}

static void fail(const char *why)
{
    fprintf(stderr, "load_client: %s: %s (%d upgraded, %d receiving, %d lost of %d)\n", why, strerror(errno), upgraded,
            receiving, lost, sockets);
    exit(1);
}

static void send_frame(struct client *client, int opcode, const char *text, size_t length)
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
        fail("a request could not be sent");
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
        fail("no connection");
    int length = snprintf(request, sizeof request,
                          "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                          "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
                          path, port);
    if (send(client->fd, request, length, MSG_NOSIGNAL) != length || epoll_ctl(epoll, EPOLL_CTL_ADD, client->fd, &event))
        fail("no handshake");
    client->open = 1;
}

static void close_client(struct client *client)
{
    close(client->fd);
    client->open = 0;
    lost++;
}

static int64_t parse_time(const char *text, const char *end)
{
    int64_t value = 0;
    int digits = -1; /* after the point */
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

static void on_message(struct client *client, const char *text, size_t length)
{
    const char *found = memmem(text, length, marker, strlen(marker));
    if (!found)
        return;
    int64_t made = parse_time(found + strlen(marker), text + length), now = now_us();
    if (made <= client->last || made > now)
        return;
    receiving += client->last == 0;
    client->last = made;
    if (!measuring)
        return;
    if (count == room && !(ages = realloc(ages, (room = room * 2 + CHUNK) * sizeof *ages)))
        fail("no memory");
    ages[count++] = (uint32_t)(now - made);
    bytes += length;
}

/* Handles the whole frames in the buffer. Returns how many bytes they were. */
static size_t read_frames(struct client *client)
{
    const unsigned char *buffer = (const unsigned char *)client->buffer;
    size_t used = 0;
    while (client->length - used >= 2) {
        size_t head = 2, length = buffer[used + 1] & 127, extended = length == 126 ? 2 : length == 127 ? 8 : 0;
        if (client->length - used < head + extended)
            break;
        if (extended)
            length = 0;
        for (; extended; extended--)
            length = length << 8 | buffer[used + head++];
        if (client->length - used < head + length)
            break;
        const char *text = client->buffer + used + head;
        int opcode = buffer[used] & 15;
        if (opcode == TEXT)
            on_message(client, text, length);
        else if (opcode == PING)
            send_frame(client, 10, text, length);
        used += head + length;
        if (opcode == CLOSE) {
            close_client(client);
            break;
        }
    }
    return used;
}

static void upgrade(struct client *client)
{
    static const char expected[] = "HTTP/1.1 101";
    char *end = memmem(client->buffer, client->length, "\r\n\r\n", 4);
    if (!end)
        return;
    if (memcmp(client->buffer, expected, sizeof expected - 1)) {
        fprintf(stderr, "%.*s\n", (int)client->length, client->buffer);
        fail("no upgrade");
    }
    client->length -= end + 4 - client->buffer;
    memmove(client->buffer, end + 4, client->length);
    client->upgraded = 1;
    upgraded++;
    if (client->request)
        send_frame(client, TEXT, client->request, strlen(client->request));
    if (client->stalled) {
        epoll_ctl(epoll, EPOLL_CTL_DEL, client->fd, NULL);
        receiving++; /* it never receives anything */
    }
}

static void read_socket(struct client *client)
{
    if (client->room - client->length < CHUNK / 8 &&
        !(client->buffer = realloc(client->buffer, client->room = client->room * 2 + CHUNK / 8)))
        fail("no memory");
    ssize_t got = recv(client->fd, client->buffer + client->length, client->room - client->length, MSG_DONTWAIT);
    if (got < 0 && errno == EAGAIN)
        return;
    if (got <= 0) {
        close_client(client);
        return;
    }
    client->length += got;
    if (!client->upgraded)
        upgrade(client);
    size_t used = client->upgraded ? read_frames(client) : 0;
    client->length -= used;
    memmove(client->buffer, client->buffer + used, client->length);
}

static int compare_ages(const void *one, const void *other)
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
    qsort(ages, count, sizeof *ages, compare_ages);
    double p50 = count ? ages[count / 2] / 1e3 : 0, p99 = count ? ages[(size_t)(count * 0.99)] / 1e3 : 0;
    printf("{\"messages\":%zu,\"seconds\":%.3f,\"p50_ms\":%.3f,\"p99_ms\":%.3f,\"max_ms\":%.3f,\"size\":%.1f,"
           "\"cpu_seconds\":%.3f,\"lost\":%d}\n",
           count, seconds, p50, p99, count ? ages[count - 1] / 1e3 : 0, count ? (double)bytes / count : 0, cpu, lost);
}

static int print_line(const char *line)
{
    puts(line);
    fflush(stdout);
    return 1;
}

int main(int argc, char **argv)
{
    if (argc < 7) {
        fputs("load_client PORT PATH SOCKETS STALLED SECONDS MARKER [REQUEST...]\n", stderr);
        return 2;
    }
    sockets = atoi(argv[3]);
    marker = argv[6];
    clients = calloc(sockets, sizeof *clients);
    epoll = epoll_create1(0);
    struct epoll_event events[EVENTS], input = {.events = EPOLLIN};
    int started = 0, connected = 0, ready = 0, stalled = atoi(argv[4]);
    int64_t deadline = now_us() + TIMEOUT_US, end = INT64_MAX, first = 0;
    double cpu = 0;
    while (now_us() < end) {
        for (; started < sockets && started - upgraded < AT_ONCE; started++) {
            clients[started].request = argc > 7 ? argv[7 + started % (argc - 7)] : NULL;
            clients[started].stalled = started >= sockets - stalled;
            start(&clients[started], atoi(argv[1]), argv[2]);
        }
        int some = epoll_wait(epoll, events, EVENTS, 10);
        for (int i = 0; i < some; i++) {
            struct client *client = events[i].data.ptr;
            if (!client) { /* the line of input */
                epoll_ctl(epoll, EPOLL_CTL_DEL, STDIN_FILENO, NULL);
                measuring = 1, first = now_us(), end = first + (int64_t)(atof(argv[5]) * 1e6), cpu = cpu_seconds();
            } else if (client->open) {
                read_socket(client);
            }
        }
        if (!connected && upgraded == sockets) {
            deadline = now_us() + TIMEOUT_US;
            connected = print_line("connected");
        }
        if (!ready && receiving == sockets) {
            epoll_ctl(epoll, EPOLL_CTL_ADD, STDIN_FILENO, &input);
            ready = print_line("ready");
        }
        if (!ready && now_us() > deadline)
            fail("not every socket has received a message in time");
    }
    report((now_us() - first) / 1e6, cpu_seconds() - cpu);
}
