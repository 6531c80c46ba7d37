// SPDX-License-Identifier: MIT
#pragma once

// What load.cpp is put together from: a histogram of latencies, and what /proc and tracefs tell.

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

namespace load {

/// Counts of nanoseconds, each known to 1/32 of itself.
class histogram {
public:
    void add(std::uint64_t ns) noexcept { ++counts_[bucket(ns)]; }

    void add(const histogram& other) noexcept {
        for (std::size_t i = 0; i < counts_.size(); ++i) {
            counts_[i] += other.counts_[i];
        }
    }

    /// At least `share` (0 to 1) of all are not above it; 0 where there are none.
    [[nodiscard]] std::uint64_t percentile(double share) const noexcept {
        std::uint64_t all = 0;
        for (const std::uint64_t count : counts_) {
            all += count;
        }
        const auto wanted = static_cast<std::uint64_t>(share * static_cast<double>(all) + 0.5);
        std::uint64_t seen = 0;
        for (std::size_t i = 0; i < counts_.size(); ++i) {
            seen += counts_[i];
            if (seen >= wanted && seen != 0) {
                return top(i);
            }
        }
        return 0;
    }

private:
    static constexpr unsigned bits = 5;

    [[nodiscard]] static std::size_t bucket(std::uint64_t ns) noexcept {
        const auto width = static_cast<unsigned>(std::bit_width(ns));
        const unsigned shift = width > bits + 1 ? width - bits - 1 : 0;
        return (std::size_t{shift} << bits) + static_cast<std::size_t>(ns >> shift);
    }
    [[nodiscard]] static std::uint64_t top(std::size_t index) noexcept {
        const std::size_t row = index >> bits;
        const std::size_t shift = row > 1 ? row - 1 : 0;
        const std::uint64_t lead = index - (shift << bits);
        return ((lead + 1) << shift) - 1;
    }

    std::array<std::uint64_t, 64u << bits> counts_{};
};

[[noreturn]] inline void die(const std::string& text) {
    std::fprintf(stderr, "load: %s\n", text.c_str());
    std::exit(1);
}

/// What the kernel has accounted so far.
struct usage {
    std::uint64_t cpu_ns = 0;
    std::uint64_t voluntary_switches = 0;

    friend usage operator-(usage a, usage b) {
        return {a.cpu_ns - b.cpu_ns, a.voluntary_switches - b.voluntary_switches};
    }
};

/// The number after `key` in a file of "key value" lines; 0 where there is none.
[[nodiscard]] inline std::uint64_t number_in(const std::string& path, const std::string& key) {
    std::ifstream file{path};
    for (std::string line; std::getline(file, line);) {
        if (line.starts_with(key)) {
            return std::strtoull(line.c_str() + key.size(), nullptr, 10);
        }
    }
    return 0;
}

[[nodiscard]] inline std::vector<unsigned> threads_of(unsigned pid) {
    std::vector<unsigned> found;
    std::error_code gone;
    for (const auto& each :
         std::filesystem::directory_iterator{"/proc/" + std::to_string(pid) + "/task", gone}) {
        found.push_back(static_cast<unsigned>(std::stoul(each.path().filename().string())));
    }
    if (found.empty()) {
        die("process " + std::to_string(pid) + " is not there");
    }
    return found;
}

/// Of the threads that the process has now.
[[nodiscard]] inline usage usage_of(unsigned pid) {
    usage sum;
    for (const unsigned thread : threads_of(pid)) {
        const std::string task = "/proc/" + std::to_string(pid) + "/task/" + std::to_string(thread);
        sum.cpu_ns += number_in(task + "/schedstat", "");
        sum.voluntary_switches += number_in(task + "/status", "voluntary_ctxt_switches:");
    }
    return sum;
}

/// Of the whole machine: time that no CPU was idle (to 10 ms), and all switches.
[[nodiscard]] inline usage usage_of_machine() {
    std::ifstream file{"/proc/stat"};
    std::string word;
    file >> word;
    std::uint64_t busy = 0;
    for (int field = 0; field < 8; ++field) {
        std::uint64_t ticks = 0;
        file >> ticks;
        busy += field == 3 || field == 4 ? 0 : ticks;
    }
    return {busy * 10'000'000, number_in("/proc/stat", "ctxt ")};
}

/// Counts the calls of io_uring_enter by thread, through a trigger of the kernel's tracing: which
/// makes every system call slower, so nothing else is measured meanwhile.
class enter_counter {
public:
    enter_counter() { write("hist:keys=common_pid:size=4096"); }
    enter_counter(const enter_counter&) = delete;
    enter_counter& operator=(const enter_counter&) = delete;
    ~enter_counter() { write("!hist:keys=common_pid:size=4096"); }

    [[nodiscard]] static bool available() { return std::filesystem::exists(event + "/hist"); }

    [[nodiscard]] std::uint64_t calls_of(const std::vector<unsigned>& threads) const {
        std::ifstream file{event + "/hist"};
        std::uint64_t sum = 0;
        for (std::string line; std::getline(file, line);) {
            unsigned thread = 0;
            unsigned long long calls = 0;
            if (std::sscanf(line.c_str(), "{ common_pid: %u } hitcount: %llu", &thread, &calls) ==
                    2 &&
                std::find(threads.begin(), threads.end(), thread) != threads.end()) {
                sum += calls;
            }
        }
        return sum;
    }

private:
    static inline const std::string event =
        "/sys/kernel/tracing/events/syscalls/sys_enter_io_uring_enter";

    static void write(const char* text) {
        std::ofstream file{event + "/trigger"};
        file << text << std::flush;
        if (!file) {
            die(std::string{"tracing refuses the trigger "} + text);
        }
    }
};

}  // namespace load
