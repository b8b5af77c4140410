/* An HTTP/1.1 load generator that is never the bottleneck: one thread, epoll, requests built ahead.
 *
 *   loadgen FILE PORT CONNECTIONS SECONDS_MAX RATE SEED LATENCIES
 *
 * FILE (mapped): u64 count, u64 offsets[count + 1], then whole requests, headers and all. Each is
 * sent once, in order, over keep-alive connections with one request in flight each.
 * RATE 0: closed loop, every connection sends its next request when the last one is answered.
 * RATE r: open loop, Poisson arrivals at r requests a second; a latency runs from the moment a
 * request was due, so waiting for a free connection counts (no coordinated omission).
 * SECONDS_MAX > 0: nothing new is sent after that long.
 * LATENCIES: where i64 nanoseconds are written, one a request in the order of FILE, -1 if not sent;
 * "-" for nowhere. What was counted is printed as one JSON object.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { REPLY_BYTES_MAX = 1 << 16, EVENTS_MAX = 1024, DRAIN_S_MAX = 60 };

typedef struct {
    int fd, busy, writing;
    uint64_t request;
    int64_t started_ns;
    const char *out;
    size_t left;
    size_t have;
    char reply[REPLY_BYTES_MAX];
} Connection;

static uint64_t count, next_request, answered, failed;
static const uint64_t *offsets;
static const char *requests;
static uint64_t accepted, duplicates, with_rejections;
static uint64_t statuses[600];
static int64_t *latencies, *due_ns;
static int64_t start_ns, last_reply_ns, stop_ns;
static int epoll_fd;
static Connection *connections, **idle;
static int idle_count;
static uint64_t waiting_max, due_count;

static void die(const char *what) {
    fprintf(stderr, "loadgen: %s: %s\n", what, errno ? strerror(errno) : "bad input");
    exit(1);
}

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void watch(Connection *c, uint32_t wanted, int operation) {
    struct epoll_event event = {.events = wanted, .data.ptr = c};
    if (epoll_ctl(epoll_fd, operation, c->fd, &event)) die("epoll_ctl");
}

static void give_up(Connection *c) {
    if (c->busy) failed++;
    c->busy = 0;
    close(c->fd);
    c->fd = -1;
}

static void push(Connection *c) {
    while (c->left) {
        ssize_t n = send(c->fd, c->out, c->left, MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN) {
            if (!c->writing) watch(c, EPOLLIN | EPOLLOUT, EPOLL_CTL_MOD);
            c->writing = 1;
            return;
        }
        if (n < 0) {
            give_up(c);
            return;
        }
        c->out += n;
        c->left -= n;
    }
    if (c->writing) watch(c, EPOLLIN, EPOLL_CTL_MOD);
    c->writing = 0;
}

static void begin(Connection *c, int64_t at_ns) {
    c->request = next_request++;
    c->busy = 1;
    c->have = 0;
    c->started_ns = at_ns;
    c->out = requests + offsets[c->request];
    c->left = offsets[c->request + 1] - offsets[c->request];
    push(c);
}

static uint64_t number_after(const char *text, const char *name) {
    const char *found = strstr(text, name);
    return found ? strtoull(found + strlen(name), NULL, 10) : 0;
}

/* The length of a whole reply, 0 while it is not whole, -1 when it cannot be read. */
static long whole(Connection *c, int *status) {
    c->reply[c->have] = 0;
    char *end = strstr(c->reply, "\r\n\r\n");
    if (!end) return c->have == REPLY_BYTES_MAX - 1 ? -1 : 0;
    if (strncmp(c->reply, "HTTP/1.1 ", 9)) return -1;
    *status = atoi(c->reply + 9);
    char *length = strcasestr(c->reply, "content-length:");
    if (!length || length > end || *status < 100 || *status > 599) return -1;
    size_t size = end + 4 - c->reply + strtoull(length + 15, NULL, 10);
    if (size >= REPLY_BYTES_MAX) return -1;
    return c->have >= size ? (long)size : 0;
}

static void tally(Connection *c, int status, int64_t at_ns) {
    statuses[status]++;
    const char *body = strstr(c->reply, "\r\n\r\n") + 4;
    if (status >= 200 && status < 300) {
        accepted += number_after(body, "\"accepted\":");
        duplicates += number_after(body, "\"duplicates\":");
        const char *rejected = strstr(body, "\"rejected\":[");
        with_rejections += rejected && rejected[12] != ']';
    }
    latencies[c->request] = at_ns - c->started_ns;
    last_reply_ns = at_ns;
    answered++;
    c->busy = 0;
}

static int pull(Connection *c) {
    ssize_t n = recv(c->fd, c->reply + c->have, REPLY_BYTES_MAX - 1 - c->have, 0);
    if (n < 0 && errno == EAGAIN) return 0;
    if (n <= 0) {
        give_up(c);
        return 0;
    }
    c->have += n;
    int status = 0;
    long size = whole(c, &status);
    if (size < 0 || (size > 0 && (size_t)size != c->have)) {
        give_up(c);
        return 0;
    }
    if (!size) return 0;
    tally(c, status, now_ns());
    return 1;
}

static void connect_all(int wanted, int port) {
    connections = calloc(wanted, sizeof *connections);
    idle = calloc(wanted, sizeof *idle);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    for (int i = 0; i < wanted; i++) {
        Connection *c = &connections[i];
        int one = 1;
        c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (c->fd < 0 || connect(c->fd, (void *)&address, sizeof address)) die("connect");
        setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        fcntl(c->fd, F_SETFL, O_NONBLOCK);
        watch(c, EPOLLIN, EPOLL_CTL_ADD);
        idle[idle_count++] = c;
    }
}

static void map(const char *path) {
    int fd = open(path, O_RDONLY);
    struct stat file;
    if (fd < 0 || fstat(fd, &file)) die(path);
    const char *all = mmap(NULL, file.st_size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
    if (all == MAP_FAILED) die("mmap");
    count = *(const uint64_t *)all;
    offsets = (const uint64_t *)all + 1;
    requests = all + 8 * (count + 2);
    if (8 * (count + 2) + offsets[count] != (uint64_t)file.st_size) die("the size of the file");
}

static void schedule(double rate, unsigned short seed[3]) {
    double at = 0;
    for (uint64_t i = 0; i < count; i++) {
        at += -log(1 - erand48(seed)) / rate;
        due_ns[i] = (int64_t)(at * 1e9);
    }
}

/* Send what may be sent now; says when the next one is due (0: when a reply comes). */
static int64_t feed(int open_loop) {
    int64_t now = now_ns();
    if (stop_ns && now >= stop_ns) count = next_request;
    while (open_loop && due_count < count && start_ns + due_ns[due_count] <= now) due_count++;
    if (due_count > next_request + waiting_max) waiting_max = due_count - next_request;
    while (idle_count && next_request < count) {
        int64_t due = open_loop ? start_ns + due_ns[next_request] : now;
        if (due > now) return due;
        Connection *c = idle[--idle_count];
        if (c->fd < 0) continue;
        begin(c, due);
        if (!open_loop) now = now_ns();
    }
    return 0;
}

static int alive(int wanted) {
    for (int i = 0; i < wanted; i++)
        if (connections[i].fd >= 0) return 1;
    return 0;
}

static void run(int wanted, int open_loop) {
    struct epoll_event events[EVENTS_MAX];
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    if (timer < 0 || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, timer, &event)) die("timerfd");
    for (;;) {
        int64_t due = feed(open_loop);
        if (next_request >= count && answered + failed >= next_request) break;
        if (due) {
            struct itimerspec at = {.it_value = {due / 1000000000LL, due % 1000000000LL}};
            timerfd_settime(timer, TFD_TIMER_ABSTIME, &at, NULL);
        }
        int n = epoll_wait(epoll_fd, events, EVENTS_MAX, 1000);
        if (n < 0 && errno != EINTR) die("epoll_wait");
        if (!alive(wanted)) break;
        if (next_request >= count && now_ns() - last_reply_ns > DRAIN_S_MAX * 1000000000LL) break;
        for (int i = 0; i < n; i++) {
            Connection *c = events[i].data.ptr;
            if (!c) {
                uint64_t ticks;
                if (read(timer, &ticks, sizeof ticks) < 0) continue;
            } else if (c->fd >= 0) {
                if (c->left) push(c);
                if (c->fd >= 0 && events[i].events & ~EPOLLOUT && pull(c)) idle[idle_count++] = c;
            }
        }
    }
}

static void print(uint64_t asked) {
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    double cpu = used.ru_utime.tv_sec + used.ru_stime.tv_sec +
                 (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
    printf("{\"requests\":%lu,\"sent\":%lu,\"answered\":%lu,\"failed\":%lu,", asked, next_request,
           answered, next_request - answered);
    printf("\"accepted\":%lu,\"duplicates\":%lu,\"with_rejections\":%lu,", accepted, duplicates,
           with_rejections);
    printf("\"elapsed_s\":%.9f,\"cpu_s\":%.6f,\"waiting_max\":%lu,\"statuses\":{",
           (last_reply_ns - start_ns) / 1e9, cpu, waiting_max);
    const char *between = "";
    for (int status = 0; status < 600; status++)
        if (statuses[status]) {
            printf("%s\"%d\":%lu", between, status, statuses[status]);
            between = ",";
        }
    printf("}}\n");
}

static void write_latencies(const char *path, uint64_t asked) {
    if (!strcmp(path, "-")) return;
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(latencies, 8, asked, file) != asked || fclose(file)) die(path);
}

int main(int argc, char **argv) {
    if (argc != 8) die("usage: FILE PORT CONNECTIONS SECONDS_MAX RATE SEED LATENCIES");
    int wanted = atoi(argv[3]);
    double seconds = atof(argv[4]), rate = atof(argv[5]);
    unsigned short seed[3] = {0x330e, atoi(argv[6]), 7};
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    map(argv[1]);
    uint64_t asked = count;
    latencies = malloc(8 * asked + 8);
    due_ns = malloc(8 * asked + 8);
    memset(latencies, 0xff, 8 * asked);
    if (rate > 0) schedule(rate, seed);
    connect_all(wanted, atoi(argv[2]));
    start_ns = last_reply_ns = now_ns();
    if (seconds > 0) stop_ns = start_ns + (int64_t)(seconds * 1e9);
    run(wanted, rate > 0);
    print(asked);
    write_latencies(argv[7], asked);
    return 0;
}
