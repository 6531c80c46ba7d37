// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/detail/fd.hpp>
#include <ublk/kernel/host.hpp>

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/ioctl.h>

#include <condition_variable>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>

namespace ublk::inline v0::detail {

inline constexpr unsigned long blk_flush_buffers = _IO(0x12, 97);  // BLKFLSBUF of <linux/fs.h>

/// Writes back what clients left in the page caches of a disk and its partitions, and what file
/// systems on them have in memory (BLKFLSBUF): STOP_DEV does that by itself, but not for a disk
/// whose requests wait for a next server.
///
/// A thread does it, since nothing ends its waiting but the answers of the server.
class disk_write_back {
public:
    /// Begins.
    template <class Kernel>
    disk_write_back(const Kernel&, std::uint32_t id) {
        try {
            shared_ = std::make_shared<state>();
            std::thread{[mine = shared_, name = "ublkb" + std::to_string(id)] {
                mine->run(name);
            }}.detach();
        } catch (const std::exception&) {
            shared_.reset();  // no thread is to be had
        }
    }

    /// False where it has not ended by then.
    [[nodiscard]] bool ended(deadline until) const {
        if (!shared_) {
            return true;
        }
        std::unique_lock lock{shared_->mutex};
        return shared_->changed.wait_until(lock, until, [this] { return shared_->done; });
    }

private:
    struct state {
        std::mutex mutex;
        std::condition_variable changed;
        bool done = false;

        void run(const std::string& disk) noexcept {
            sigset_t all;
            ::sigfillset(&all);
            (void)::pthread_sigmask(SIG_BLOCK, &all, nullptr);
            try {
                write_back_partitions(disk);
                write_back("/dev/" + disk);
            } catch (const std::exception&) {  // no memory for a name
            }
            const std::lock_guard lock{mutex};
            done = true;
            changed.notify_all();
        }
    };

    static void write_back(const std::string& path) noexcept {
        const fd node{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
        if (node) {
            (void)::ioctl(node.get(), blk_flush_buffers, 0);
        }
    }

    static void write_back_partitions(const std::string& disk) {
        const std::unique_ptr<DIR, int (*)(DIR*)> directory{
            ::opendir(("/sys/block/" + disk).c_str()), ::closedir};
        while (const dirent* const entry = directory ? ::readdir(directory.get()) : nullptr) {
            const std::string_view name = entry->d_name;
            if (name.starts_with(disk + "p")) {
                write_back("/dev/" + std::string{name});
            }
        }
    }

    std::shared_ptr<state> shared_;
};

/// Of a kernel that has no page caches.
struct no_write_back {
    template <class Kernel>
    no_write_back(const Kernel&, std::uint32_t) noexcept {}
    [[nodiscard]] static bool ended(deadline) noexcept { return true; }
};

template <class Kernel>
struct disk_write_back_of {
    using type = no_write_back;
};
template <class Kernel>
    requires requires {
        typename Kernel::disk_write_back;
    }
struct disk_write_back_of<Kernel> {
    using type = typename Kernel::disk_write_back;
};

}  // namespace ublk::inline v0::detail
