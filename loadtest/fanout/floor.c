/* The minimum of a fan-out: one non-blocking `send` of an encoded frame per socket, in turn.

   floor PORT SIZE PER_SECOND, which begins at SIGUSR2

   It implements only as much of RFC 6455 as the load client needs: the response to every handshake is the same, messages
   of clients are not read, and a client whose socket does not take a whole frame is disconnected. */

#define _GNU_SOURCE
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MAX_CLIENTS = 65536, HEAD = 4 };

static int clients[MAX_CLIENTS], count;
static volatile sig_atomic_t started;

static void start(int number)
{
    started = number;
}

static int64_t now_us(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * INT64_C(1000000) + time.tv_nsec / 1000;
}

static int create_listener(int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    int listener = socket(AF_INET, SOCK_STREAM, 0), yes = 1;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 4096)) {
        perror("floor");
        exit(1);
    }
    return listener;
}

static void accept_client(int listener)
{
    static const char response[] = "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n"
                                  "sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    char request[4096];
    int client = accept(listener, NULL, NULL), yes = 1;
    if (client < 0)
        return;
    setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    if (count < MAX_CLIENTS && recv(client, request, sizeof request, 0) > 0 &&
        send(client, response, sizeof response - 1, MSG_NOSIGNAL) > 0)
        clients[count++] = client;
    else
        close(client);
}

static void fan_out(char *frame, int size)
{
    char text[64];
    int64_t now = now_us();
    int length = snprintf(text, sizeof text, "%lld.%06lld", (long long)(now / 1000000), (long long)(now % 1000000));
    int used = snprintf(frame + HEAD, size, "{\"type\":\"price_update\",\"close\":\"%.*s\",\"padding\":\"", length, text);
    memset(frame + HEAD + used, 'x', size - used - 2);
    memcpy(frame + HEAD + size - 2, "\"}", 2);
    for (int i = 0; i < count;) {
        if (send(clients[i], frame, HEAD + size, MSG_DONTWAIT | MSG_NOSIGNAL) == HEAD + size) {
            i++;
        } else {
            close(clients[i]);
            clients[i] = clients[--count];
        }
    }
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fputs("floor PORT SIZE PER_SECOND\n", stderr);
        return 2;
    }
    int size = atoi(argv[2]);
    int64_t every = 1000000 / atoi(argv[3]), next = now_us();
    struct pollfd listener = {.fd = create_listener(atoi(argv[1])), .events = POLLIN};
    char *frame = malloc(HEAD + size + 1);
    frame[0] = (char)0x81, frame[1] = 126, frame[2] = (char)(size >> 8), frame[3] = (char)size;
    signal(SIGUSR2, start);
    for (;;) {
        int64_t left = next - now_us();
        if (!started) {
            next = now_us();
            if (poll(&listener, 1, -1) > 0)
                accept_client(listener.fd);
        } else if (left <= 0) {
            fan_out(frame, size);
            next += every;
        } else if (poll(&listener, 1, (int)((left + 999) / 1000)) > 0) {
            accept_client(listener.fd);
        }
    }
}
