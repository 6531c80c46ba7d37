// SPDX-License-Identifier: MIT
//
// A client of a block device that does as little as it can itself: each thread keeps so many
// requests at random places in flight through its own io_uring, with O_DIRECT and a registered
// file, and takes one reading of the clock a turn. Prints one line of JSON.
#include "load.hpp"

#include <ublk/detail/fd.hpp>

#include <fcntl.h>
#include <getopt.h>
#include <liburing.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <barrier>
#include <cerrno>
#include <cinttypes>
#include <cstring>
#include <ctime>
#include <memory>
#include <thread>

namespace {

using namespace load;

struct plan {
    const char* device = nullptr;
    std::string way = "read";    ///< or write, mixed, fill
    std::uint64_t bytes = 4096;  ///< of a request
    unsigned depth = 1;          ///< of a job
    unsigned jobs = 1;           ///< threads
    std::uint64_t span = 0;      ///< of the device, from its start; 0: all of it
    std::uint64_t requests = 0;  ///< of all jobs; 0: as many as fit into `ns`
    std::uint64_t ns = 0;
    std::uint64_t warm = 0;    ///< requests before that do not count
    unsigned batch = 0;        ///< requests that one system call takes and sends; 0: all there are
    std::uint64_t enters = 0;  ///< requests with calls of io_uring_enter counted
    unsigned server = 0;       ///< process, 0: none
    std::string profile{};     ///< file for the memory map, with marks around what counts
};

std::uint64_t now() noexcept {
    timespec at{};
    ::clock_gettime(CLOCK_MONOTONIC, &at);
    return static_cast<std::uint64_t>(at.tv_sec) * 1'000'000'000u +
           static_cast<std::uint64_t>(at.tv_nsec);
}

/// What profile_plugin.c looks for: a long nop with "ubl" and that letter for its displacement.
template <char Letter>
void mark() noexcept {
#ifdef __x86_64__
    asm volatile(".byte 0x0f, 0x1f, 0x80, 'u', 'b', 'l', %c0" ::"i"(Letter) : "memory");
#endif
}

/// One thread's share.
class job {
public:
    job(const plan& p, int file, std::uint64_t device_bytes, unsigned number)
        : p_{p}, file_{file}, blocks_{device_bytes / p.bytes}, state_{0x9e3779b97f4a7c15u *
                                                                      (number + 1)} {
        const std::size_t all = p.depth * p.bytes;
        void* const memory = ::mmap(nullptr, all, PROT_READ | PROT_WRITE,
                                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
        if (memory == MAP_FAILED || blocks_ == 0) {
            die("no memory, or a device smaller than a request");
        }
        std::memset(memory, 0x5a, all);
        memory_ = static_cast<std::byte*>(memory);
        began_.resize(p.depth);
    }
    job(const job&) = delete;
    job& operator=(const job&) = delete;
    ~job() {
        if (owned_) {
            io_uring_queue_exit(&ring_);
        }
        ::munmap(memory_, p_.depth * p_.bytes);
    }

    /// On the thread that goes on to use it.
    void own() {
        io_uring_params parameters{};
        parameters.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;
        const int made = io_uring_queue_init_params(p_.depth, &ring_, &parameters);
        if (made < 0 || io_uring_register_files(&ring_, &file_, 1) != 0) {
            die(std::string{"io_uring: "} + std::strerror(-made));
        }
        owned_ = true;
    }

    /// Does `requests`, or as many as begin within `ns` where that is 0; returns how many.
    std::uint64_t run(std::uint64_t requests, std::uint64_t ns) {
        std::uint64_t time = now();
        const std::uint64_t end = requests == 0 ? time + ns : UINT64_MAX;
        const std::uint64_t most = requests == 0 ? UINT64_MAX : requests;
        std::uint64_t begun = 0, done = 0;
        for (unsigned slot = 0; slot < p_.depth && begun < most; ++slot, ++begun) {
            begin(slot, time);
        }
        while (done < begun) {
            if (const int failed = io_uring_submit_and_wait(&ring_, 1);
                failed < 0 && failed != -EINTR) {
                die(std::string{"io_uring_enter: "} + std::strerror(-failed));
            }
            time = now();
            unsigned head = 0, seen = 0;
            io_uring_cqe* event = nullptr;
            io_uring_for_each_cqe(&ring_, head, event) {
                const auto slot = static_cast<unsigned>(event->user_data);
                if (event->res != static_cast<int>(p_.bytes)) {
                    die(std::string{p_.device} + ": " + p_.way + ": " +
                        (event->res < 0 ? std::strerror(-event->res) : "a short transfer"));
                }
                latencies.add(time - began_[slot]);
                ++seen;
                if (begun < most && time < end) {
                    begin(slot, time);
                    ++begun;
                }
                if (seen == p_.batch) {
                    break;
                }
            }
            io_uring_cq_advance(&ring_, seen);
            done += seen;
        }
        return done;
    }

    histogram latencies;
    std::uint64_t served = 0;

private:
    void begin(unsigned slot, std::uint64_t time) {
        const std::uint64_t chance = next();
        const std::uint64_t block = p_.way == "fill" ? filled_++ % blocks_ : chance % blocks_;
        const bool writes = writes_always_ || (mixed_ && (chance >> 63) != 0);
        io_uring_sqe* const sqe = io_uring_get_sqe(&ring_);
        io_uring_prep_rw(writes ? IORING_OP_WRITE : IORING_OP_READ, sqe, 0,
                         memory_ + slot * p_.bytes, static_cast<unsigned>(p_.bytes),
                         block * p_.bytes);
        sqe->flags |= IOSQE_FIXED_FILE;
        sqe->user_data = slot;
        began_[slot] = time;
    }

    std::uint64_t next() noexcept {
        state_ ^= state_ << 13;
        state_ ^= state_ >> 7;
        state_ ^= state_ << 17;
        return state_;
    }

    const plan& p_;
    int file_;
    std::uint64_t blocks_;
    std::uint64_t state_;
    bool writes_always_ = p_.way == "write" || p_.way == "fill";
    bool mixed_ = p_.way == "mixed";
    std::uint64_t filled_ = 0;
    std::byte* memory_ = nullptr;
    std::vector<std::uint64_t> began_;
    io_uring ring_{};
    bool owned_ = false;
};

struct outcome {
    std::uint64_t requests = 0, ns = 0, enters = 0, own_enters = 0;
    usage server, client, machine;
    histogram latencies;
};

/// The threads wait for each other before each phase, and the first takes the readings between.
class measurement {
public:
    measurement(const plan& p, int file, std::uint64_t device_bytes) : p_{p}, meet_{p.jobs} {
        for (unsigned i = 0; i < p.jobs; ++i) {
            jobs_.push_back(std::make_unique<job>(p, file, device_bytes, i));
        }
    }

    outcome run() {
        std::vector<std::thread> others;
        for (unsigned i = 1; i < p_.jobs; ++i) {
            others.emplace_back([this, i] { work(i); });
        }
        work(0);
        for (std::thread& each : others) {
            each.join();
        }
        for (const auto& each : jobs_) {
            result_.requests += each->served;
        }
        return result_;
    }

private:
    [[nodiscard]] std::uint64_t share(std::uint64_t all) const {
        return (all + p_.jobs - 1) / p_.jobs;
    }

    void work(unsigned number) {
        job& mine = *jobs_[number];
        const bool first = number == 0;
        mine.own();
        if (p_.warm != 0) {
            mine.run(share(p_.warm), 0);
        }
        mine.latencies = {};
        meet_.arrive_and_wait();
        if (first) {
            before();
        }
        meet_.arrive_and_wait();
        mine.served = mine.run(share(p_.requests), p_.ns);
        meet_.arrive_and_wait();
        if (first) {
            after();
        }
        meet_.arrive_and_wait();
        if (p_.enters != 0) {
            mine.run(share(p_.enters), 0);
            meet_.arrive_and_wait();
            if (first) {
                count_enters();
            }
            meet_.arrive_and_wait();  // a thread that has ended is not found any more
        }
    }

    void before() {
        server_ = p_.server != 0 ? usage_of(p_.server) : usage{};
        client_ = usage_of(static_cast<unsigned>(::getpid()));
        machine_ = usage_of_machine();
        if (!p_.profile.empty()) {
            std::ofstream{p_.profile} << std::ifstream{"/proc/self/maps"}.rdbuf();
            mark<'b'>();
        }
        began_ = now();
    }

    void after() {
        result_.ns = now() - began_;
        if (!p_.profile.empty()) {
            mark<'e'>();
        }
        result_.machine = usage_of_machine() - machine_;
        result_.client = usage_of(static_cast<unsigned>(::getpid())) - client_;
        result_.server = p_.server != 0 ? usage_of(p_.server) - server_ : usage{};
        for (const auto& each : jobs_) {
            result_.latencies.add(each->latencies);
        }
        if (p_.enters != 0) {
            counter_ = std::make_unique<enter_counter>();
        }
    }

    void count_enters() {
        result_.enters = p_.server != 0 ? counter_->calls_of(threads_of(p_.server)) : 0;
        result_.own_enters = counter_->calls_of(threads_of(static_cast<unsigned>(::getpid())));
        counter_.reset();
    }

    const plan& p_;
    std::barrier<> meet_;
    std::vector<std::unique_ptr<job>> jobs_;
    std::unique_ptr<enter_counter> counter_;
    usage server_, client_, machine_;
    std::uint64_t began_ = 0;
    outcome result_;
};

void print(const plan& p, const outcome& o) {
    const auto n = static_cast<double>(o.requests);
    const auto each = [&](std::uint64_t all) { return static_cast<double>(all) / n; };
    std::printf("{\"requests\":%" PRIu64 ",\"ns\":%" PRIu64 ",\"p50\":%" PRIu64 ",\"p99\":%" PRIu64
                ",\"p999\":%" PRIu64,
                o.requests, o.ns, o.latencies.percentile(0.5), o.latencies.percentile(0.99),
                o.latencies.percentile(0.999));
    std::printf(",\"client_cpu_ns\":%.1f,\"machine_cpu_ns\":%.1f,\"machine_switches\":%.4f",
                each(o.client.cpu_ns), each(o.machine.cpu_ns), each(o.machine.voluntary_switches));
    if (p.enters != 0) {
        std::printf(",\"client_enters\":%.4f",
                    static_cast<double>(o.own_enters) / static_cast<double>(p.enters));
    }
    if (p.server != 0) {
        const std::string status = "/proc/" + std::to_string(p.server) + "/status";
        std::printf(",\"server_cpu_ns\":%.1f,\"server_switches\":%.4f,\"server_rss_kib\":%" PRIu64
                    ",\"server_anon_kib\":%" PRIu64,
                    each(o.server.cpu_ns), each(o.server.voluntary_switches),
                    number_in(status, "VmRSS:"), number_in(status, "RssAnon:"));
    }
    if (p.server != 0 && p.enters != 0) {
        std::printf(",\"server_enters\":%.4f",
                    static_cast<double>(o.enters) / static_cast<double>(p.enters));
    }
    std::printf("}\n");
}

[[noreturn]] void usage_message(int status) {
    std::fprintf(status == 0 ? stdout : stderr,
                 "usage: load [OPTION]... DEVICE\n"
                 "  --way read|write|mixed|fill  random places; fill: in turn, once over all\n"
                 "  --bytes N      of a request (4096)\n"
                 "  --depth N      requests in flight, of each job (1)\n"
                 "  --jobs N       threads (1)\n"
                 "  --span N       bytes from the start of the device on (all)\n"
                 "  --requests N   of all jobs; or\n"
                 "  --ms N         milliseconds\n"
                 "  --warm N       requests before, which do not count\n"
                 "  --batch N      requests that one system call takes and sends (all there are);\n"
                 "                 1 is what fio does by default\n"
                 "  --server PID   whose CPU time, switches and memory are told as well\n"
                 "  --profile FILE tells profile.sh what to count; FILE gets the memory map\n"
                 "  --enters N     requests after, whose calls of io_uring_enter are counted\n");
    std::exit(status);
}

std::uint64_t number(const char* option, const char* text) {
    char* end = nullptr;
    errno = 0;
    const unsigned long long value = std::strtoull(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || *text == '-') {
        die(std::string{"--"} + option + " " + text + ": not a number");
    }
    return value;
}

plan parse(int argc, char** argv) {
    static const option known[] = {
        {"way", 1, nullptr, 0},    {"bytes", 1, nullptr, 0}, {"depth", 1, nullptr, 0},
        {"jobs", 1, nullptr, 0},   {"span", 1, nullptr, 0},  {"requests", 1, nullptr, 0},
        {"ms", 1, nullptr, 0},     {"warm", 1, nullptr, 0},  {"server", 1, nullptr, 0},
        {"enters", 1, nullptr, 0}, {"batch", 1, nullptr, 0}, {"profile", 1, nullptr, 0},
        {"help", 0, nullptr, 'h'}, {nullptr, 0, nullptr, 0}};
    plan p;
    int index = 0;
    for (int got = 0; (got = ::getopt_long(argc, argv, "", known, &index)) != -1;) {
        if (got != 0) {
            usage_message(got == 'h' ? 0 : 2);
        }
        const std::string name = known[index].name;
        if (name == "way" || name == "profile") {
            (name == "way" ? p.way : p.profile) = optarg;
            continue;
        }
        const std::uint64_t value = number(name.c_str(), optarg);
        if (name == "bytes") {
            p.bytes = value;
        } else if (name == "depth") {
            p.depth = static_cast<unsigned>(value);
        } else if (name == "jobs") {
            p.jobs = static_cast<unsigned>(value);
        } else if (name == "span") {
            p.span = value;
        } else if (name == "requests") {
            p.requests = value;
        } else if (name == "ms") {
            p.ns = value * 1'000'000;
        } else if (name == "warm") {
            p.warm = value;
        } else if (name == "batch") {
            p.batch = static_cast<unsigned>(value);
        } else if (name == "server") {
            p.server = static_cast<unsigned>(value);
        } else {
            p.enters = value;
        }
    }
    if (optind + 1 != argc) {
        usage_message(2);
    }
    p.device = argv[optind];
    return p;
}

void check(const plan& p) {
    if (p.way != "read" && p.way != "write" && p.way != "mixed" && p.way != "fill") {
        die("--way " + p.way + ": read, write, mixed or fill");
    }
    if (p.bytes == 0 || p.bytes % 512 != 0 || p.bytes > (64u << 20)) {
        die("--bytes: a multiple of 512, up to 64 MiB");
    }
    if (p.depth == 0 || p.depth > 4096 || p.jobs == 0 || p.jobs > 256) {
        die("--depth takes 1 to 4096, --jobs 1 to 256");
    }
    if (p.way != "fill" && (p.requests == 0) == (p.ns == 0)) {
        die("either --requests or --ms");
    }
    if (p.enters != 0 && !enter_counter::available()) {
        die("--enters: no histogram of system calls: mount tracefs at /sys/kernel/tracing");
    }
}

}  // namespace

int main(int argc, char** argv) {
    plan p = parse(argc, argv);
    check(p);
    const ublk::fd device{
        ::open(p.device, (p.way == "read" ? O_RDONLY : O_RDWR) | O_DIRECT | O_CLOEXEC)};
    const int file = device.get();
    std::uint64_t device_bytes = 0;
    if (file < 0 || ::ioctl(file, BLKGETSIZE64, &device_bytes) != 0) {
        die(std::string{p.device} + ": " + std::strerror(errno));
    }
    if (p.span > device_bytes) {
        die(std::string{p.device} + ": smaller than --span");
    }
    device_bytes = p.span != 0 ? p.span : device_bytes;
    if (p.way == "fill") {
        p.jobs = 1;
        p.requests = device_bytes / p.bytes;
    }
    print(p, measurement{p, file, device_bytes}.run());
}
