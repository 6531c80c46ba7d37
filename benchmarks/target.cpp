// SPDX-License-Identifier: MIT
// Serves one disk of the matrix, by its name.
#include "target.hpp"

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <stop_token>
#include <thread>
#include <utility>

namespace benchmark {

namespace {

template <std::size_t... Index>
std::vector<disk> join(std::index_sequence<Index...>) {
    std::vector<disk> all;
    (
        [&] {
            for (disk& each : disks_with_backend<Index>()) {
                all.push_back(std::move(each));
            }
        }(),
        ...);
    return all;
}

constexpr auto backend_count = decltype(hana::size(backends))::value;
static_assert(backend_count == UBLK_BENCHMARK_BACKENDS, "CMakeLists.txt lists the backends, too");

void list() {
    std::vector<std::string> names;
    for (const disk& each : all_disks()) {
        names.push_back('"' + each.name + '"');
    }
    fmt::print("[{}]\n", fmt::join(names, ",\n "));
}

int serve(const std::string& name, const settings& s, ublk::options requested) {
    const std::vector<disk> all = all_disks();
    const auto chosen =
        std::find_if(all.begin(), all.end(), [&](const disk& each) { return each.name == name; });
    if (chosen == all.end()) {
        fmt::print(stderr, "target: no disk {} (--list prints all)\n", name);
        return 2;
    }
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &signals, nullptr);
    std::stop_source source;
    requested.path = requested.path.value_or(chosen->path);
    const auto started = [&](const std::string& path, const ublk::device_info& info) {
        fmt::print("{{\"device\":\"{}\",\"pid\":{},\"queues\":{},\"depth\":{},\"threads\":{},"
                   "\"max_io\":{},\"batch_io\":{}}}\n",
                   path, ::getpid(), info.queues, info.depth, info.threads, info.max_io_bytes,
                   info.batch_io);
        std::fflush(stdout);
        std::thread{[&] {
            int caught = 0;
            sigwait(&signals, &caught);
            source.request_stop();
        }}.detach();
    };
    chosen->serve(s, requested, source.get_token(), started);
    return 0;
}

}  // namespace

std::vector<disk> all_disks() {
    return join(std::make_index_sequence<backend_count>{});
}

}  // namespace benchmark

int main(int argc, char** argv) {
    CLI::App app{"Serves a disk as /dev/ublkbN until SIGINT or SIGTERM; prints one line of JSON."};
    benchmark::settings s;
    ublk::options requested;
    requested.queues = 1;
    std::string name;
    bool list = false;
    std::string path;
    const auto bytes = CLI::AsSizeValue{false};
    app.add_flag("--list", list, "print the names of all disks as JSON");
    app.add_option("NAME", name, "backend/queue policy/batch policy/data path");
    app.add_option("--size", s.bytes, "of the disk")->transform(bytes)->default_str("64M");
    app.add_option("--file", s.file, "of the backend `file`");
    app.add_flag("--direct", s.direct, "past the page cache");
    app.add_option("--queues", requested.queues, "0: one for each CPU")->capture_default_str();
    app.add_option("--depth", requested.depth, "of each queue")->capture_default_str();
    app.add_option("--max-io", requested.max_io_bytes, "largest request in bytes")
        ->transform(bytes);
    app.add_option("--path", path, "another data path than that of the name");
    CLI11_PARSE(app, argc, argv);
    if (!path.empty() && !(requested.path = ublk::data_path_named(path))) {
        fmt::print(stderr, "target: no data path {}\n", path);
        return 2;
    }
    if (list) {
        benchmark::list();
        return 0;
    }
    try {
        return benchmark::serve(name, s, requested);
    } catch (const std::exception& failed) {
        std::fprintf(stderr, "%s\n", failed.what());
        return 1;
    }
}
