// The floor: a raw relay that costs its system calls, and almost nothing else. One thread, epoll, fixed buffers. It finds the event,
// the user and the room of a packet by searching for their keys, trusts every client, and closes those that send anything unexpected.

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
#include <unistd.h>

enum { FILES = 1 << 16, TABLE = 1 << 17, NAME = 64, LARGEST = 1 << 16, EVENTS = 512 };

typedef struct Conn { // the memory of an idle connection
    int fd, upgraded;
    struct Room *room;
    struct Conn *next; // in the room, in joining order
    char user[NAME];
    uint8_t *rest; // an incomplete frame or request
    size_t size;
} Conn;

typedef struct Room {
    char id[NAME];
    Conn *first;
    struct Room *next;
} Room;

static Conn *conns[FILES];
static Room *table[TABLE];
static uint8_t in[4 * LARGEST], out[2 * LARGEST];
static int loop;

static uint32_t rol(uint32_t x, int n) { return x << n | x >> (32 - n); }

static void sha1(const char *text, size_t size, uint8_t digest[20]) { // RFC 3174, for less than 120 bytes
    uint32_t h[5] = {0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476, 0xC3D2E1F0}, w[80];
    uint8_t block[128] = {0};
    memcpy(block, text, size);
    block[size] = 0x80;
    size_t blocks = size < 56 ? 1 : 2;
    for (int i = 0; i < 4; i++) block[blocks * 64 - 1 - i] = (uint8_t)(size * 8 >> 8 * i);
    for (size_t at = 0; at < blocks * 64; at += 64) {
        for (int i = 0; i < 16; i++)
            w[i] = (uint32_t)block[at + 4 * i] << 24 | block[at + 4 * i + 1] << 16 | block[at + 4 * i + 2] << 8 | block[at + 4 * i + 3];
        for (int i = 16; i < 80; i++) w[i] = rol(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
        uint32_t a = h[0], b = h[1], c = h[2], d = h[3], e = h[4];
        for (int i = 0; i < 80; i++) {
            uint32_t f = i < 20 ? (b & c) | (~b & d) : i < 40 ? b ^ c ^ d : i < 60 ? (b & c) | (b & d) | (c & d) : b ^ c ^ d;
            uint32_t k = i < 20 ? 0x5A827999 : i < 40 ? 0x6ED9EBA1 : i < 60 ? 0x8F1BBCDC : 0xCA62C1D6;
            uint32_t t = rol(a, 5) + f + e + k + w[i];
            e = d, d = c, c = rol(b, 30), b = a, a = t;
        }
        h[0] += a, h[1] += b, h[2] += c, h[3] += d, h[4] += e;
    }
    for (int i = 0; i < 20; i++) digest[i] = (uint8_t)(h[i / 4] >> (24 - 8 * (i % 4)));
}

static void base64(const uint8_t *from, size_t size, char *to) {
    static const char set[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < size; i += 3) {
        uint32_t x = (uint32_t)from[i] << 16 | (i + 1 < size ? from[i + 1] << 8 : 0) | (i + 2 < size ? from[i + 2] : 0);
        *to++ = set[x >> 18], *to++ = set[x >> 12 & 63];
        *to++ = i + 1 < size ? set[x >> 6 & 63] : '=', *to++ = i + 2 < size ? set[x & 63] : '=';
    }
    *to = 0;
}

static void give(Conn *conn, const void *data, size_t size) { // readers are fast enough here, or lose the rest
    if (send(conn->fd, data, size, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 && errno != EPIPE && errno != ECONNRESET) perror("send");
}

static size_t head(uint8_t *to, size_t size) { // of a text frame
    to[0] = 0x81;
    if (size < 126) return to[1] = (uint8_t)size, 2;
    to[1] = 126, to[2] = (uint8_t)(size >> 8), to[3] = (uint8_t)size;
    return 4;
}

static void tell(Conn *to, const char *text, size_t size) {
    size_t start = head(out, size);
    memcpy(out + start, text, size);
    give(to, out, start + size);
}

static Room **place(const char *id) {
    uint32_t hash = 2166136261u;
    for (const char *c = id; *c; c++) hash = (hash ^ (uint8_t)*c) * 16777619u;
    Room **found = &table[hash % TABLE];
    while (*found && strcmp((*found)->id, id)) found = &(*found)->next;
    return found;
}

static void leave(Conn *conn) {
    Room *room = conn->room;
    if (!room) return;
    Conn **each = &room->first;
    while (*each != conn) each = &(*each)->next;
    *each = conn->next, conn->room = NULL, conn->next = NULL;
    if (!room->first) {
        Room **found = place(room->id);
        *found = room->next;
        free(room);
        return;
    }
    static char text[512];
    int size = snprintf(text, sizeof text, "{\"Header\":{\"Event\":\"disconnect\",\"UserId\":\"%s\",\"RoomId\":\"%s\"},\"Payload\":\"\"}",
                        conn->user, room->id);
    for (Conn *member = room->first; member; member = member->next) tell(member, text, (size_t)size);
}

static void drop(Conn *conn) {
    leave(conn);
    conns[conn->fd] = NULL;
    close(conn->fd);
    free(conn->rest), free(conn);
}

static int value(const char *text, size_t size, const char *key, char to[NAME]) { // of a key in the header: a plain string
    const char *at = memmem(text, size, key, strlen(key));
    if (!at || !(at = memchr(at + strlen(key), '"', (size_t)(text + size - at) - strlen(key)))) return 0;
    at++;
    const char *end = memchr(at, '"', (size_t)(text + size - at));
    if (!end || end - at >= NAME) return 0;
    memcpy(to, at, (size_t)(end - at)), to[end - at] = 0;
    return 1;
}

static void join(Conn *conn, const char *user, const char *id) {
    leave(conn);
    Room **found = place(id), *room = *found;
    if (!room) {
        room = *found = calloc(1, sizeof *room);
        strcpy(room->id, id);
    }
    Conn **end = &room->first;
    while (*end) end = &(*end)->next;
    *end = conn, conn->room = room, strcpy(conn->user, user);
    static char text[512];
    int size = snprintf(text, sizeof text, "{\"Header\":{\"Event\":\"connect\",\"UserId\":\"%s\",\"RoomId\":\"%s\"},\"Payload\":\"%s\"}", user, id,
                        room->first == conn ? "true" : "false");
    for (Conn *member = room->first; member; member = member->next) tell(member, text, (size_t)size);
}

static int packet(Conn *conn, const char *text, size_t size) { // whether it is one
    char event[NAME], user[NAME], id[NAME];
    size_t within = size < 400 ? size : 400;
    if (!value(text, within, "\"Event\":", event) || !value(text, within, "\"UserId\":", user) || !value(text, within, "\"RoomId\":", id))
        return 0;
    if (*event == 'c') return join(conn, user, id), 1;
    if (*event == 'd') return leave(conn), 1;
    if (*event != 'b' || !conn->room) return 0;
    size_t start = head(out, size);
    memcpy(out + start, text, size);
    for (Conn *member = conn->room->first; member; member = member->next)
        if (member != conn) give(member, out, start + size);
    return 1;
}

static long frame(Conn *conn, uint8_t *data, size_t size) { // returns its size in bytes; 0: incomplete; -1: close
    if (size < 6) return 0;
    size_t length = data[1] & 127, start = 6;
    if (length == 126) {
        if (size < 8) return 0;
        length = (size_t)data[2] << 8 | data[3], start = 8;
    }
    if (length > 65535 || data[0] != 0x81 || !(data[1] & 128)) return -1;
    if (size < start + length) return 0;
    uint32_t mask32;
    memcpy(&mask32, data + start - 4, 4);
    uint64_t mask = (uint64_t)mask32 << 32 | mask32, word;
    uint8_t *text = data + start;
    size_t i = 0;
    for (; i + 8 <= length; i += 8) memcpy(&word, text + i, 8), word ^= mask, memcpy(text + i, &word, 8);
    for (; i < length; i++) text[i] ^= (uint8_t)(mask >> 8 * (i & 3));
    return packet(conn, (char *)text, length) ? (long)(start + length) : -1;
}

static long upgrade(Conn *conn, uint8_t *data, size_t size) {
    uint8_t *end = memmem(data, size, "\r\n\r\n", 4);
    if (!end) return size < 8192 ? 0 : -1;
    *end = 0;
    char *key = strcasestr((char *)data, "sec-websocket-key:"), joined[64], answer[160];
    if (!key) return -1;
    key += strspn(key + 18, " ") + 18;
    snprintf(joined, sizeof joined, "%.24s258EAFA5-E914-47DA-95CA-C5AB0DC85B11", key);
    uint8_t digest[20];
    char accept[32];
    sha1(joined, 60, digest), base64(digest, 20, accept);
    int told = snprintf(answer, sizeof answer,
                        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n", accept);
    give(conn, answer, (size_t)told);
    conn->upgraded = 1;
    return end + 4 - data;
}

static void hear(Conn *conn) {
    if (conn->size) memcpy(in, conn->rest, conn->size);
    ssize_t got = recv(conn->fd, in + conn->size, sizeof in - conn->size, MSG_DONTWAIT);
    if (got < 0 && errno == EAGAIN) return;
    size_t size = conn->size + (size_t)(got > 0 ? got : 0), at = 0;
    long used = got > 0 ? 1 : -1;
    while (used > 0 && at < size)
        if ((used = (conn->upgraded ? frame : upgrade)(conn, in + at, size - at)) > 0) at += (size_t)used;
    if (used < 0) return drop(conn);
    free(conn->rest), conn->rest = NULL;
    if ((conn->size = size - at)) memcpy(conn->rest = malloc(conn->size), in + at, conn->size);
}

int main(void) {
    struct rlimit most;
    getrlimit(RLIMIT_NOFILE, &most);
    most.rlim_cur = most.rlim_max;
    setrlimit(RLIMIT_NOFILE, &most);
    int one = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    if (bind(listener, (struct sockaddr *)&address, length) || listen(listener, 4096)) return perror("listen"), 1;
    getsockname(listener, (struct sockaddr *)&address, &length);
    printf("Listening on http://127.0.0.1:%d/echo\n", ntohs(address.sin_port));
    fflush(stdout);
    loop = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener}, events[EVENTS];
    epoll_ctl(loop, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        int ready = epoll_wait(loop, events, EVENTS, -1);
        for (int i = 0; i < ready; i++) {
            int fd = events[i].data.fd;
            if (fd != listener) {
                if (conns[fd]) hear(conns[fd]);
                continue;
            }
            if ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
                if (fd >= FILES) { close(fd); continue; }
                setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
                (conns[fd] = calloc(1, sizeof(Conn)))->fd = fd;
                event = (struct epoll_event){.events = EPOLLIN, .data.fd = fd};
                epoll_ctl(loop, EPOLL_CTL_ADD, fd, &event);
            }
        }
    }
}
