// SPDX-License-Identifier: MIT
// Many RAM disks on few threads.
#include "program.hpp"

#include <ublk/backends/memory.hpp>

#include <memory>
#include <vector>

using pooled_disk = ublk::device<ublk::backends::memory, ublk::pooled>;

int main(int argc, char** argv) {
    CLI::App app{"Serves several RAM disks on one set of threads until a signal ends it."};
    unsigned count = 4;
    std::uint64_t size = std::uint64_t{64} << 20;
    ublk::thread_set_options set_settings;
    ublk::options requested;
    requested.queues = 1;
    requested.depth = 32;
    app.add_option("--disks", count, "how many")->check(CLI::Range(1, 64))->capture_default_str();
    app.add_option("--size", size, "size of each disk in bytes, or 512M, 1G, ...")
        ->transform(CLI::AsSizeValue{false})
        ->default_str("64M");
    app.add_option("--threads", set_settings.threads,
                   "threads that serve them; 0: one for each CPU")
        ->check(CLI::Range(0, 4096))
        ->capture_default_str();
    app.add_option("--queues", requested.queues, "hardware queues of each disk")
        ->check(CLI::Range(1u, ublk::uapi::max_nr_queues))
        ->capture_default_str();
    program::add_deadlines(app, requested);
    return program::run(app, argc, argv, [&] {
        const program::signals caught;
        const ublk::thread_set threads{set_settings};
        std::vector<std::unique_ptr<pooled_disk>> disks;
        for (unsigned i = 0; i < count; ++i) {
            disks.push_back(
                std::make_unique<pooled_disk>(ublk::backends::memory{size}, threads, requested));
            disks.back()->start();
            program::say(stdout, disks.back()->path() + " ");
        }
        program::say(stdout, fmt::format("on {} threads\n", threads.size()));
        for (const auto& each : disks) {
            each->wait(caught.token());
        }
    });
}
