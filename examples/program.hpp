// SPDX-License-Identifier: MIT
// What the example programs share: options, signals, exit codes. Not part of the library.
#pragma once

#include <ublk/ublk.hpp>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include <csignal>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <set>
#include <stop_token>
#include <string>
#include <thread>
#include <utility>

namespace program {

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
    ublk::options asked;
};

inline void add_options(CLI::App& app, settings& s) {
    const auto bytes = CLI::AsSizeValue{false};  // K, M, G are powers of 1024
    app.add_option("--size", s.size, "size of the disk in bytes, or 512M, 1G, ...")
        ->transform(bytes)
        ->default_str("1G");
    app.add_option("--queues", s.asked.queues, "hardware queues; 0: one for each CPU")
        ->check(CLI::Range(0u, ublk::uapi::max_nr_queues))
        ->capture_default_str();
    app.add_option("--depth", s.asked.depth, "requests in flight per queue")
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
        ->check(CLI::IsMember({"per_wakeup", "driver_batches"}))
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
    app.add_flag("--lock", s.asked.lock_buffers, "lock the tag buffers in memory");
}

/// Turns what was parsed into what the library takes.
[[nodiscard]] inline ublk::options options_of(const settings& s) {
    ublk::options asked = s.asked;
    if (s.id >= 0) {
        asked.id = static_cast<std::uint32_t>(s.id);
    }
    // The library refuses what is out of range; a narrowing here must not make it look right.
    constexpr std::uint64_t most = UINT32_MAX;
    asked.max_io_bytes = static_cast<std::uint32_t>(s.max_io < most ? s.max_io : most);
    asked.buffer_pages = s.buffers == "huge"          ? ublk::pages::huge
                         : s.buffers == "transparent" ? ublk::pages::transparent
                                                      : ublk::pages::standard;
    asked.path = ublk::data_path_named(s.data_path);
    return asked;
}

/// Blocks SIGINT and SIGTERM in this thread and those that it starts, and turns the first of them
/// into a stop request. Make one before any other thread.
class signals {
public:
    signals() {
        sigemptyset(&set_);
        sigaddset(&set_, SIGINT);
        sigaddset(&set_, SIGTERM);
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
    fmt::print("{}: {} bytes, {} queue{} of depth {}, {} thread{}, {} {}\n", disk.path(),
               disk.backend().size(), info.queues, info.queues == 1 ? "" : "s", info.depth,
               info.threads, info.threads == 1 ? "" : "s", s.threads, s.batch);
    fmt::print("data path: {}{}{}\n", ublk::to_string(info.path),
               info.path_reason.empty() ? "" : "; ", info.path_reason);
    std::fflush(stdout);  // whoever reads it through a pipe waits for this line
    disk.wait(caught.token());
}

template <class QueuePolicy, class Backend>
void serve_batched(Backend backend, const settings& s) {
    if (s.batch == "driver_batches") {
        serve<QueuePolicy, ublk::driver_batches>(std::move(backend), s);
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
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& wrong) {
        return app.exit(wrong) == 0 ? 0 : 2;
    }
    try {
        body();
        return 0;
    } catch (const std::exception& failed) {
        fmt::print(stderr, "{}\n", failed.what());
        return 1;
    }
}

}  // namespace program
