// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/detail/fd.hpp>
#include <ublk/detail/process.hpp>

#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <mutex>
#include <utility>
#include <vector>

namespace ublk::inline v0::detail {

/// Descriptors that fork closes in the child. An open /dev/ublkcN there, or an io_uring that refers
/// to one, would keep the disk of a server that has died, and its clients would wait.
class closed_on_fork {
public:
    /// Throws std::bad_alloc.
    static void add(int number) {
        closed_on_fork& here = all();
        const std::lock_guard lock{here.mutex_};
        here.numbers_.push_back(number);
    }

    /// `file` is no longer to be closed, or is closed here: nobody forks in between.
    static void remove(int number, fd file = {}) noexcept {
        closed_on_fork& here = all();
        const std::lock_guard lock{here.mutex_};
        std::erase(here.numbers_, number);
        fd{}.swap(file);
    }

private:
    closed_on_fork() {
        (void)::pthread_atfork([] { all().mutex_.lock(); }, [] { all().mutex_.unlock(); },
                               [] { all().close_all(); });
    }

    // Never destroyed: a thread may outlive what main has made.
    static closed_on_fork& all() {
        static closed_on_fork* const one = new closed_on_fork;
        return *one;
    }

    // In the child: only calls that are safe in a signal handler, since others may hold any lock.
    void close_all() noexcept {
        for (int& number : numbers_) {
            ::close(std::exchange(number, -1));
        }
        mutex_.unlock();
    }

    std::mutex mutex_;
    std::vector<int> numbers_;
};

/// Sole owner of a file descriptor that only the process has that made it: fork(2) closes it in the
/// child, whose copy of the owner then does nothing. Not so after clone(2) or _Fork(3), which call
/// no handlers.
class process_fd {
public:
    process_fd() noexcept = default;

    /// Throws std::bad_alloc.
    explicit process_fd(fd file) : file_{std::move(file)} {
        if (file_) {
            closed_on_fork::add(file_.get());
        }
    }

    process_fd(process_fd&& other) noexcept = default;
    process_fd& operator=(process_fd&&) = delete;
    ~process_fd() {
        if (!file_) {
            return;
        }
        if (process_ == this_process()) {
            const int number = file_.get();
            closed_on_fork::remove(number, std::move(file_));
        } else {
            (void)file_.release();
        }
    }

    [[nodiscard]] int get() const noexcept { return file_.get(); }

    /// Closes the file, but keeps the number from being given to another file for as long as the
    /// process lives: whoever still uses it gets EBADF.
    void close_for_good() noexcept {
        const fd nothing{::open("/", O_PATH | O_CLOEXEC)};
        if (::dup3(nothing.get(), file_.get(), O_CLOEXEC) == file_.get()) {
            closed_on_fork::remove(file_.get());
            (void)file_.release();
        }
    }

private:
    std::uint64_t process_ = this_process();
    fd file_;
};

}  // namespace ublk::inline v0::detail
