// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/detail/fd.hpp>

#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <utility>

namespace ublk::inline v0 {

/// An open file of a backend that the rings of the queue threads register, so that operations on it
/// need not look the descriptor up. A backend has it as a member, names it in `ring_files()`, and
/// passes it to the operations of `io`. It may be moved before the device starts only.
class registered_file {
public:
    registered_file() noexcept = default;
    explicit registered_file(fd file) noexcept : file_{std::move(file)} {}

    registered_file(registered_file&& other) noexcept
        : file_{std::move(other.file_)}, version_{other.version_.load(std::memory_order_relaxed)} {}
    registered_file& operator=(registered_file&& other) noexcept {
        file_ = std::move(other.file_);
        version_.store(other.version_.load(std::memory_order_relaxed), std::memory_order_relaxed);
        return *this;
    }

    /// The descriptor, which stays the same.
    [[nodiscard]] int get() const noexcept { return file_.get(); }
    [[nodiscard]] explicit operator bool() const noexcept { return static_cast<bool>(file_); }

    /// Puts another open file in its place, such as a new connection, while the device is served.
    /// Operations that the kernel has already go to the old file, all that are awaited from now on
    /// to the new one.
    ///
    /// Errors: -errno, EBADF where `fresh` is none; nothing is changed then. 0 otherwise.
    /// Thread: any; where there was no file yet, only before the start.
    [[nodiscard]] int replace(fd fresh) noexcept {
        if (!fresh) {
            return -EBADF;
        }
        if (!file_) {
            file_ = std::move(fresh);
        } else if (::dup3(fresh.get(), file_.get(), O_CLOEXEC) == -1) {
            return -errno;
        }
        version_.fetch_add(1, std::memory_order_release);
        return 0;
    }

    /// Grows with each `replace`.
    [[nodiscard]] std::uint32_t version() const noexcept {
        return version_.load(std::memory_order_acquire);
    }

private:
    fd file_;
    std::atomic<std::uint32_t> version_ = 0;
};

/// What an operation works on: a descriptor, or a file that is registered.
struct file_ref {
    constexpr file_ref(int descriptor) noexcept : number{descriptor} {}
    file_ref(const registered_file& file) noexcept : number{file.get()}, record{&file} {}

    int number;
    const registered_file* record = nullptr;
};

}  // namespace ublk::inline v0
