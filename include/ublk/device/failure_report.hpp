// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/data/request_failure.hpp>
#include <ublk/kernel/host.hpp>
#include <ublk/time_limit.hpp>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <utility>

namespace ublk::inline v0 {

using failure_listener = void (*)(const std::string& sentence);

/// Tells `options::log` what went wrong with requests of one device: on a thread of its own, which
/// starts with the first trouble, since whoever listens may take time. The first sentences come at
/// once, then one a second; of what there is no room for only the number is told.
template <class Kernel>
class failure_report {
public:
    failure_report(const Kernel& running, failure_listener log, std::uint32_t device)
        : shared_{std::make_shared<state>(running, log, device)} {}
    failure_report(const failure_report&) = delete;
    failure_report& operator=(const failure_report&) = delete;
    ~failure_report() { finish(std::chrono::seconds{1}); }

    /// From a queue thread, on its way to say EIO.
    [[gnu::cold]] void note(const request_failure& trouble) noexcept {
        state& here = *shared_;
        if constexpr (requires { here.kernel.hear_of(trouble); }) {
            here.kernel.hear_of(trouble);
        }
        if (here.log == nullptr) {
            return;
        }
        const std::lock_guard lock{here.mutex};
        const unsigned once = trouble.why == request_failure::kind::exception
                                  ? 0
                                  : 1u << static_cast<unsigned>(trouble.why);
        if (here.ended || (here.told_once & once) != 0) {
            return;
        }
        here.told_once |= once;
        if (here.count == here.waiting.size()) {
            ++here.dropped;
            return;
        }
        here.waiting[here.count++] = trouble;
        try {
            if (!thread_) {
                thread_.emplace([mine = shared_] { mine->run(); });
            }
        } catch (...) {
            here.count = 0;  // no thread is to be had, so nobody is told
        }
        here.changed.notify_all();
    }

    /// Tells what there is, for `limit` at most; no queue thread is left by then.
    void finish(time_limit limit) noexcept {
        std::unique_lock lock{shared_->mutex};
        shared_->ended = true;
        if (!thread_) {
            return;
        }
        shared_->changed.notify_all();
        const bool told = shared_->changed.wait_until(lock, from_now(shared_->kernel, limit),
                                                      [this] { return shared_->done; });
        lock.unlock();
        told ? thread_->join() : thread_->detach();
        thread_.reset();
    }

private:
    struct state {
        state(const Kernel& running, failure_listener to, std::uint32_t device)
            : kernel{running}, log{to}, id{device} {}

        void run() noexcept {
            constexpr unsigned at_once = 8;
            constexpr std::chrono::seconds pace{1};
            std::unique_lock lock{mutex};
            for (unsigned told = 0; !ended || count != 0 || dropped != 0;) {
                changed.wait(lock, std::stop_token{},
                             [this] { return ended || count != 0 || dropped != 0; });
                if (count != 0) {
                    const request_failure first = waiting[0];
                    std::move(waiting.begin() + 1, waiting.begin() + count, waiting.begin());
                    --count;
                    tell(lock, sentence(first));
                } else if (dropped != 0) {
                    tell(lock, std::to_string(std::exchange(dropped, 0)) +
                                   " more requests failed with EIO in the same way");
                }
                if (++told >= at_once) {
                    (void)changed.wait_until(lock, from_now(kernel, pace),
                                             [this] { return ended; });
                }
            }
            done = true;
            changed.notify_all();
        }

        template <class Lock>
        void tell(Lock& lock, const std::string& sentence) noexcept {
            lock.unlock();
            try {
                log("ublk: device " + std::to_string(id) + ": " + sentence);
            } catch (...) {  // it has been told all the same
            }
            lock.lock();
        }

        Kernel kernel;
        failure_listener log;
        std::uint32_t id;
        typename Kernel::mutex mutex;
        typename Kernel::condition changed;
        std::array<request_failure, 16> waiting{};
        unsigned count = 0;
        unsigned dropped = 0;
        unsigned told_once = 0;  ///< kinds of which one is enough
        bool ended = false;
        bool done = false;
    };

    std::shared_ptr<state> shared_;
    std::optional<typename Kernel::thread> thread_;
};

}  // namespace ublk::inline v0
