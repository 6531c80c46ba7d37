// SPDX-License-Identifier: MIT
// What the example programs share: options, signals, exit codes. Not part of the library.
#pragma once

#include <ublk/ublk.hpp>

#include <CLI/CLI.hpp>
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <set>
#include <stop_token>
#include <string>
#include <thread>
#include <utility>

namespace program {

/// A program may be started without the standard streams, or with ones that nobody reads any more.
/// Neither is a reason to stop serving, nor may a file that is opened get such a number. First of
/// all in main.
inline void secure_standard_streams() {
    for (int stream = STDIN_FILENO; stream <= STDERR_FILENO; ++stream) {
        if (::fcntl(stream, F_GETFD) == -1) {
            (void)::open("/dev/null", O_RDWR);  // takes the lowest number that is free
        }
    }
    (void)std::signal(SIGPIPE, SIG_IGN);
}

/// Prints, as far as there is somebody to print for.
inline void say(std::FILE* to, const std::string& text) noexcept {
    (void)std::fwrite(text.data(), 1, text.size(), to);
    (void)std::fflush(to);  // whoever reads it through a pipe waits for it
}

/// "500ms", "30s", "5m", "2h", or "none" for no limit; anything else is refused.
[[nodiscard]] inline ublk::time_limit time_limit_named(const std::string& text) {
    using duration = std::chrono::duration<double>;
    static const std::map<std::string, double> units{{"ms", 0.001}, {"", 1},     {"s", 1},
                                                     {"m", 60},     {"min", 60}, {"h", 3600}};
    if (text == "none") {
        return ublk::no_deadline;
    }
    char* end = nullptr;
    const double number = std::strtod(text.c_str(), &end);
    const auto unit = units.find(end);
    if (end == text.c_str() || unit == units.end() || !(number > 0)) {
        throw CLI::ValidationError{text + " is no time such as 500ms, 30s, 5m, 2h, or none"};
    }
    return duration{number * unit->second};
}

inline void add_time_limit(CLI::App& app, const std::string& name, ublk::time_limit& limit,
                           const std::string& what, const std::string& normal) {
    app.add_option_function<std::string>(
           name, [&limit](const std::string& text) { limit = time_limit_named(text); }, what)
        ->type_name("TIME")
        ->default_str(normal);
}

inline void add_deadlines(CLI::App& app, ublk::options& requested) {
    add_time_limit(app, "--stop-deadline", requested.stop_deadline,
                   "how long a stop waits for the next answer of the disk; then what is not "
                   "written back is lost; none: for ever",
                   "1m");
    add_time_limit(app, "--command-deadline", requested.command_deadline,
                   "how long each step of start and stop may take", "10s");
}

/// What every disk takes on its command line.
struct settings {
    std::uint64_t size = std::uint64_t{1} << 30;
    std::uint32_t block_size = 512;
    bool read_only = false;
    std::string threads = "per_cpu";
    std::string batch = "per_wakeup";
    std::int64_t id = -1;
    std::uint64_t max_io = ublk::options{}.max_io_bytes;
    std::string buffers = "standard";
    std::string data_path = "best";
    ublk::options requested;
};

inline void add_options(CLI::App& app, settings& s) {
    const auto bytes = CLI::AsSizeValue{false};  // K, M, G are powers of 1024
    app.add_option("--size", s.size, "size of the disk in bytes, or 512M, 1G, ...")
        ->transform(bytes)
        ->default_str("1G");
    app.add_option("--queues", s.requested.queues, "hardware queues; 0: one for each CPU")
        ->check(CLI::Range(0u, ublk::uapi::max_nr_queues))
        ->capture_default_str();
    app.add_option("--depth", s.requested.depth, "requests in flight per queue")
        ->check(CLI::Range(1u, ublk::uapi::max_queue_depth))
        ->capture_default_str();
    app.add_option("--max-io", s.max_io, "largest request in bytes, or 256K, 1M, ...")
        ->transform(bytes)
        ->default_str("256K");
    app.add_option("--id", s.id, "number N of /dev/ublkbN; -1: any that is free")
        ->check(CLI::Range(-1, static_cast<int>(ublk::uapi::max_devices) - 1))
        ->capture_default_str();
    app.add_option("--threads", s.threads, "queue policy: who serves the queues")
        ->check(CLI::IsMember({"per_cpu", "shared"}))
        ->capture_default_str();
    app.add_option("--batch", s.batch, "batch policy: whose batches completions go back in")
        ->check(CLI::IsMember({"per_wakeup", "batch_io"}))
        ->capture_default_str();
    app.add_option("--buffers", s.buffers, "what backs the tag buffers")
        ->check(CLI::IsMember({"standard", "transparent", "huge"}))
        ->capture_default_str();
    std::set<std::string> paths{"best"};
    for (const auto& [path, name] : ublk::data_path_names) {
        paths.emplace(name);
    }
    app.add_option("--data-path", s.data_path, "how the bytes of requests travel")
        ->check(CLI::IsMember(paths))
        ->capture_default_str();
    app.add_flag("--lock", s.requested.lock_buffers, "lock the tag buffers in memory");
    add_deadlines(app, s.requested);
}

/// Turns what was parsed into what the library takes.
[[nodiscard]] inline ublk::options options_of(const settings& s) {
    ublk::options requested = s.requested;
    if (s.id >= 0) {
        requested.id = static_cast<std::uint32_t>(s.id);
    }
    // The library refuses what is out of range; a narrowing here must not make it look right.
    constexpr std::uint64_t most = UINT32_MAX;
    requested.max_io_bytes = static_cast<std::uint32_t>(s.max_io < most ? s.max_io : most);
    requested.tag_buffer_memory = s.buffers == "huge"          ? ublk::buffer_memory::huge
                                  : s.buffers == "transparent" ? ublk::buffer_memory::transparent
                                                               : ublk::buffer_memory::standard;
    requested.path = ublk::data_path_named(s.data_path);
    requested.on_event = [](const ublk::event& e) {
        if (e.type != ublk::event::kind::setup) {  // which the greeting tells
            say(stderr, to_string(e) + "\n");
        }
    };
    return requested;
}

/// Blocks SIGINT, SIGTERM, SIGHUP and SIGQUIT in this thread and those that it starts, and turns
/// the first of them into a stop request: dirty pages are written back. Make one before any other
/// thread.
class signals {
public:
    signals() {
        sigemptyset(&set_);
        for (const int each : {SIGINT, SIGTERM, SIGHUP, SIGQUIT}) {
            sigaddset(&set_, each);
        }
        pthread_sigmask(SIG_BLOCK, &set_, nullptr);
        listener_ = std::thread{[this] {
            int caught = 0;
            sigwait(&set_, &caught);
            source_.request_stop();
        }};
    }
    signals(const signals&) = delete;
    signals& operator=(const signals&) = delete;
    ~signals() {
        pthread_kill(listener_.native_handle(), SIGTERM);
        listener_.join();
    }

    [[nodiscard]] std::stop_token token() const { return source_.get_token(); }

private:
    sigset_t set_{};
    std::stop_source source_;
    std::thread listener_;
};

/// Serves until a signal comes or the device ends.
template <class QueuePolicy, class BatchPolicy, class Backend>
void serve(Backend backend, const settings& s) {
    const signals caught;
    ublk::device<Backend, QueuePolicy, BatchPolicy> disk{std::move(backend), options_of(s)};
    disk.start();
    const ublk::device_info info = disk.info();
    say(stdout,
        fmt::format("{}: {} bytes, {} queue{} of depth {}, {} thread{}, {} {}\n"
                    "data path: {} ({})\n",
                    disk.path(), disk.backend().size(), info.queues, info.queues == 1 ? "" : "s",
                    info.depth, info.threads, info.threads == 1 ? "" : "s", s.threads, s.batch,
                    ublk::to_string(info.path), info.path_reason));
    disk.wait(caught.token());
}

template <class QueuePolicy, class Backend>
void serve_batched(Backend backend, const settings& s) {
    if (s.batch == "batch_io") {
        serve<QueuePolicy, ublk::batch_io>(std::move(backend), s);
    } else {
        serve<QueuePolicy, ublk::per_wakeup>(std::move(backend), s);
    }
}

/// Names on the command line become types here, once. Few of them: each pair of policies is a loop
/// of its own for each data path, and compiling takes its time. A program of yours names those that
/// it wants; benchmarks/ compares them all.
template <class Backend>
void serve_by_name(Backend backend, const settings& s) {
    if (s.threads == "shared") {
        serve_batched<ublk::shared>(std::move(backend), s);
    } else {
        serve_batched<ublk::per_cpu>(std::move(backend), s);
    }
}

/// Parses, runs and turns what is thrown into an exit code: 0 stopped as asked, 1 it failed, 2 the
/// command line is wrong.
inline int run(CLI::App& app, int argc, char** argv, const std::function<void()>& body) {
    secure_standard_streams();
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& wrong) {
        return app.exit(wrong) == 0 ? 0 : 2;
    }
    try {
        body();
        return 0;
    } catch (const std::exception& failed) {
        say(stderr, failed.what() + std::string{"\n"});
        return 1;
    }
}

}  // namespace program
