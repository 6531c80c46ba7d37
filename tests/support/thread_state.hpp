// SPDX-License-Identifier: MIT
#pragma once

#include <sys/types.h>

#include <chrono>
#include <fstream>
#include <string>
#include <thread>

namespace ublk::test {

/// What a thread of this process does, as the kernel has it: 'R' runs, 'S' sleeps, 'D' waits for a
/// disk, beyond any signal. 0: there is none.
[[nodiscard]] inline char state_of_thread(pid_t thread) {
    std::ifstream file{"/proc/self/task/" + std::to_string(thread) + "/stat"};
    std::string line;
    std::getline(file, line);
    const std::size_t name_ends = line.rfind(") ");
    return name_ends == std::string::npos ? '\0' : line[name_ends + 2];
}

/// Waits until it sleeps; false after a minute.
[[nodiscard]] inline bool falls_asleep(pid_t thread) {
    const auto until = std::chrono::steady_clock::now() + std::chrono::minutes{1};
    while (state_of_thread(thread) != 'S') {
        if (std::chrono::steady_clock::now() >= until) {
            return false;
        }
        std::this_thread::sleep_for(std::chrono::milliseconds{1});
    }
    return true;
}

}  // namespace ublk::test
