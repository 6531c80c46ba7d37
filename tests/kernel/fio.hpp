// SPDX-License-Identifier: MIT
#pragma once

// fio, and what it says.

#include "shell.hpp"

#include <ublk/detail/cpu_set.hpp>

#include <gtest/gtest.h>

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace ublk_test {

/// What fio says of one of its jobs.
struct job {
    std::string name;
    int error = 0;
    std::uint64_t read = 0;  ///< bytes, those of the verification included
    std::uint64_t written = 0;
};

struct fio_run {
    finished program;
    std::vector<job> jobs;
};

/// The number that follows `key` after `at`, which moves behind it; empty where there is none.
inline std::optional<std::uint64_t> number_after(const std::string& text, const std::string& key,
                                                 std::size_t& at) {
    const std::size_t found = text.find("\"" + key + "\" : ", at);
    if (found == std::string::npos) {
        return {};
    }
    at = found + key.size() + 5;
    return std::stoull(text.substr(at, 24));
}

/// fio's JSON has, for each job in this order: its name, its error, and the bytes read and written.
inline std::vector<job> jobs_of(const std::string& json) {
    constexpr const char* name_key = "\"jobname\" : \"";
    std::vector<job> all;
    std::size_t at = json.find(name_key);
    while (at != std::string::npos) {
        job one;
        at += std::string{name_key}.size();
        one.name = json.substr(at, json.find('"', at) - at);
        const auto error = number_after(json, "error", at);
        at = json.find("\"read\" : {", at);
        const auto read = number_after(json, "io_bytes", at);
        at = json.find("\"write\" : {", at);
        const auto written = number_after(json, "io_bytes", at);
        if (!error || !read || !written) {
            ADD_FAILURE() << "fio's answer has another form than this test knows";
            break;
        }
        one.error = static_cast<int>(*error);
        one.read = *read;
        one.written = *written;
        all.push_back(one);
        at = json.find(name_key, at);
    }
    return all;
}

/// Runs a job file; its text is in the log where the run fails.
inline fio_run fio(const std::string& file, std::chrono::milliseconds limit = long_patience) {
    const std::string base = "/tmp/ublk-fio-" + std::to_string(::getpid());
    EXPECT_TRUE(write_text(base + ".fio", file));
    (void)::unlink((base + ".json").c_str());
    fio_run done;
    done.program = run(
        {"fio", "--output-format=json", "--output=" + base + ".json", "--eta=never", base + ".fio"},
        limit);
    const std::string text = read_text(base + ".json");
    done.program.output += text.substr(0, 4000);
    // What goes wrong before or while it runs is written before the JSON.
    done.jobs = jobs_of(text);
    (void)::unlink((base + ".json").c_str());
    (void)::unlink((base + ".fio").c_str());
    return done;
}

inline std::string section(const std::string& name,
                           const std::vector<std::pair<std::string, std::string>>& lines) {
    std::string text = "[" + name + "]\n";
    for (const auto& [key, value] : lines) {
        text += key + "=" + value + "\n";
    }
    return text;
}

inline std::string text(std::uint64_t number) {
    return std::to_string(number);
}

/// What all jobs have in common. The random sequence is the same in every run.
inline std::string globals(const std::string& path, const std::string& engine, unsigned depth) {
    return section("global", {{"filename", path},
                              {"ioengine", engine},
                              {"direct", "1"},
                              {"iodepth", text(depth)},
                              {"thread", "1"},
                              {"randseed", "20261122"},
                              {"verify", "crc32c"},
                              {"verify_fatal", "1"}});
}

/// Both CPUs write at once, small and large, to a disk of 16 MiB, and read everything back.
inline std::string both_cpus(const std::string& path) {
    constexpr std::uint64_t mebibyte = std::uint64_t{1} << 20;
    std::string file = globals(path, "io_uring", 16);
    for (unsigned cpu = 0; cpu < std::min(2u, ublk::detail::online_cpus()); ++cpu) {
        for (const auto& [name, size] : {std::pair{"small", "4k"}, {"large", "160k"}}) {
            const bool small = std::string{name} == "small";
            const std::uint64_t offset = (cpu * 2 + (small ? 0u : 1u)) * 4 * mebibyte;
            file += section(std::string{name} + text(cpu),
                            {{"rw", "randrw"},
                             {"bs", size},
                             {"offset", text(offset)},
                             {"size", text(small ? mebibyte / 2 : 4 * mebibyte)},
                             {"cpus_allowed", text(cpu)}});
        }
    }
    return file;
}

template <class Device>
void without_scheduler(const Device& disk) {
    const std::string name = "/sys/block/ublkb" + text(disk.id()) + "/queue/scheduler";
    ASSERT_TRUE(write_text(name, "none"));
}

}  // namespace ublk_test
