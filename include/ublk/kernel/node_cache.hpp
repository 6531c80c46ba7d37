// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/detail/fd.hpp>

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <system_error>
#include <thread>

namespace ublk::inline v0::detail {

/// The page cache of /dev/ublkbN: what clients wrote to the node itself and nobody has written back
/// yet. A file system on it has another cache, of which this tells nothing.
///
/// Opens the node, which nobody can any more once the disk is being removed. That, and its closing,
/// may wait for whoever does not answer, so that a thread does both.
class node_cache {
public:
    explicit node_cache(std::uint32_t id) noexcept {
        try {
            shared_ = std::make_shared<state>();
            std::thread{[mine = shared_, path = "/dev/ublkb" + std::to_string(id)] {
                mine->hold(path.c_str());
            }}.detach();
            shared_->await(&state::opened);
        } catch (const std::exception&) {
            shared_.reset();  // of which nothing depends but a sentence
        }
    }
    node_cache(const node_cache&) = delete;
    node_cache& operator=(const node_cache&) = delete;
    /// Waits a little for the node to be closed.
    ~node_cache() {
        if (shared_) {
            shared_->leave();
        }
    }

    /// Bytes that are dirty or on their way to the disk; empty where that is not known: before
    /// Linux 6.5, or where this process has no such node.
    [[nodiscard]] std::optional<std::uint64_t> dirty_bytes() const noexcept {
        return shared_ ? shared_->dirty_bytes() : std::nullopt;
    }

private:
    struct state {
        std::mutex mutex;
        std::condition_variable changed;
        fd file;
        bool opened = false;
        bool leaving = false;
        bool closed = false;

        void await(bool state::*member) {
            constexpr std::chrono::milliseconds patience{100};  // an open takes microseconds
            std::unique_lock lock{mutex};
            (void)changed.wait_for(lock, patience, [&] { return this->*member; });
        }

        void leave() noexcept {
            {
                const std::lock_guard lock{mutex};
                leaving = true;
                changed.notify_all();
            }
            await(&state::closed);
        }

        void hold(const char* path) noexcept {
            sigset_t all;
            ::sigfillset(&all);
            (void)::pthread_sigmask(SIG_BLOCK, &all, nullptr);
            fd node{::open(path, O_RDONLY | O_CLOEXEC)};
            std::unique_lock lock{mutex};
            file.swap(node);
            opened = true;
            changed.notify_all();
            changed.wait(lock, [this] { return leaving; });
            file.swap(node);
            lock.unlock();
            fd{}.swap(node);
            lock.lock();
            closed = true;
            changed.notify_all();
        }

        [[nodiscard]] std::optional<std::uint64_t> dirty_bytes() noexcept {
            constexpr long cachestat = 451;  // newer than the headers of some systems
            struct {
                std::uint64_t offset = 0;
                std::uint64_t length = 0;  // to the end
            } range;
            struct {
                std::uint64_t cached, dirty, writeback, evicted, recently_evicted;
            } pages{};
            const std::lock_guard lock{mutex};
            if (!file || ::syscall(cachestat, file.get(), &range, &pages, 0u) != 0) {
                return std::nullopt;
            }
            return (pages.dirty + pages.writeback) *
                   static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
        }
    };

    std::shared_ptr<state> shared_;
};

/// Of a kernel that is not the real one: nothing is known.
struct no_node_cache {
    explicit no_node_cache(std::uint32_t) noexcept {}
    [[nodiscard]] static std::optional<std::uint64_t> dirty_bytes() noexcept { return {}; }
};

template <class Kernel>
struct node_cache_of {
    using type = no_node_cache;
};
template <class Kernel>
    requires requires {
        typename Kernel::node_cache;
    }
struct node_cache_of<Kernel> {
    using type = typename Kernel::node_cache;
};

}  // namespace ublk::inline v0::detail
