// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/detail/fd.hpp>

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <new>
#include <string>
#include <string_view>

namespace ublk::inline v0::detail {

/// A word that is 0 again in every child process, also in those of clone(2); null where the kernel
/// (before 4.14) or an emulator has no MADV_WIPEONFORK.
[[nodiscard]] inline std::atomic<std::uint64_t>* word_wiped_on_fork() noexcept {
    const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    void* const memory =
        ::mmap(nullptr, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        return nullptr;
    }
    if (::madvise(memory, page, MADV_WIPEONFORK) != 0) {
        ::munmap(memory, page);
        return nullptr;
    }
    return new (memory) std::atomic<std::uint64_t>{0};
}

/// Names the calling process among all that descend from each other by fork: another number than in
/// any of its ancestors, never 0. Unlike a process id it is not used again, and it is another one
/// in a child with a pid namespace of its own too. Any thread.
[[nodiscard]] inline std::uint64_t this_process() noexcept {
    static std::atomic<std::uint64_t>* const mine = word_wiped_on_fork();
    static std::atomic<std::uint64_t> last{0};  // a child goes on from where its parent was
    if (mine == nullptr) {
        return static_cast<std::uint64_t>(::getpid());
    }
    std::uint64_t number = *mine;
    if (number == 0) {
        const std::uint64_t fresh = ++last;
        number = mine->compare_exchange_strong(number, fresh) ? fresh : number;
    }
    return number;
}

/// The letter by which /proc/PID/stat names the state of a process; 0 where it cannot be read.
[[nodiscard]] inline char process_state(int process) {
    const fd file{
        ::open(("/proc/" + std::to_string(process) + "/stat").c_str(), O_RDONLY | O_CLOEXEC)};
    char text[128];
    const auto length = file ? ::read(file.get(), text, sizeof text) : -1;
    const std::string_view all{text, length > 0 ? static_cast<std::size_t>(length) : 0};
    const std::size_t name_end = all.rfind(')');  // a name may have any character
    return name_end != all.npos && name_end + 2 < all.size() ? all[name_end + 2] : '\0';
}

/// False of a process that has ended, also where its parent has not waited for it.
[[nodiscard]] inline bool process_alive(int process) {
    if (::kill(process, 0) != 0 && errno == ESRCH) {
        return false;
    }
    const char state = process_state(process);
    return state != 'Z' && state != 'X';
}

}  // namespace ublk::inline v0::detail
