// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/data/request_failure.hpp>
#include <ublk/event.hpp>
#include <ublk/kernel/host.hpp>
#include <ublk/time_limit.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <system_error>
#include <utility>

namespace ublk::inline v0::detail {

/// Tells an event hook what happens while one device serves: on a thread of its own, which starts
/// with the first event, since a hook may take its time. The first come at once, then one a second;
/// of what there is no room for only the number is told.
template <class Kernel>
class event_report {
public:
    event_report(const Kernel& running, event_hook hook, std::uint32_t device)
        : shared_{std::make_shared<state>(running, std::move(hook), device)} {}
    event_report(const event_report&) = delete;
    event_report& operator=(const event_report&) = delete;
    ~event_report() { finish(std::chrono::seconds{1}); }

    /// From a queue thread, on its way to say EIO.
    [[gnu::cold]] void note(const request_failure& failure) noexcept {
        state& here = *shared_;
        if constexpr (requires { here.kernel.hear_of(failure); }) {
            here.kernel.hear_of(failure);
        }
        const std::lock_guard lock{here.mutex};
        const unsigned once =
            failure.why == event::kind::exception ? 0 : 1u << static_cast<unsigned>(failure.why);
        if ((here.told_once & once) != 0) {
            return;
        }
        here.told_once |= once;
        add(failure);
    }

    /// From a queue thread that leaves with that errno (negative).
    [[gnu::cold]] void note_thread_lost(int code) noexcept {
        const std::lock_guard lock{shared_->mutex};
        if (shared_->hook && !shared_->ended) {
            shared_->thread_error = shared_->thread_error != 0 ? shared_->thread_error : code;
            wake();
        }
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
    /// Under the mutex.
    void add(const request_failure& latest) noexcept {
        state& here = *shared_;
        if (!here.hook || here.ended) {
            return;
        }
        if (here.count == here.waiting.size()) {
            ++here.dropped;
            return;
        }
        here.waiting[here.count++] = latest;
        wake();
    }

    /// Under the mutex.
    void wake() noexcept {
        try {
            if (!thread_) {
                thread_.emplace([mine = shared_] { mine->run(); });
            }
        } catch (...) {
            shared_->count = 0;  // no thread is to be had, so nobody is told
        }
        shared_->changed.notify_all();
    }

    struct state {
        state(const Kernel& running, event_hook to, std::uint32_t device)
            : kernel{running}, hook{std::move(to)}, id{device} {}

        void run() noexcept {
            constexpr unsigned at_once = 8;
            constexpr std::chrono::seconds pace{1};
            std::unique_lock lock{mutex};
            for (unsigned told = 0; !ended || pending();) {
                changed.wait(lock, std::stop_token{}, [this] { return ended || pending(); });
                if (thread_error != 0) {
                    const int code = std::exchange(thread_error, 0);
                    tell(lock, [&] { return lost(code); });
                } else if (count != 0) {
                    const request_failure first = waiting[0];
                    std::move(waiting.begin() + 1, waiting.begin() + count, waiting.begin());
                    --count;
                    tell(lock, [&] { return event{first.why, id, sentence(first)}; });
                } else if (dropped != 0) {
                    const unsigned more = std::exchange(dropped, 0);
                    tell(lock, [&] {
                        return event{event::kind::suppressed, id,
                                     std::to_string(more) +
                                         " more requests failed with EIO in the same way"};
                    });
                }
                if (++told >= at_once) {
                    (void)changed.wait_until(lock, from_now(kernel, pace),
                                             [this] { return ended || thread_error != 0; });
                }
            }
            done = true;
            changed.notify_all();
        }

        [[nodiscard]] bool pending() const noexcept {
            return thread_error != 0 || count != 0 || dropped != 0;
        }

        [[nodiscard]] event lost(int code) const {
            return {event::kind::thread_lost, id,
                    "a queue thread has failed, and with it the device: " +
                        std::generic_category().message(-code)};
        }

        template <class Lock, class Make>
        void tell(Lock& lock, Make make) noexcept {
            lock.unlock();
            try {
                hook(make());
            } catch (...) {  // it has been told all the same
            }
            lock.lock();
        }

        Kernel kernel;
        event_hook hook;
        std::uint32_t id;
        typename Kernel::mutex mutex;
        typename Kernel::condition changed;
        std::array<request_failure, 16> waiting{};
        int thread_error = 0;  ///< of the first queue thread that was lost, until it is told
        unsigned count = 0;
        unsigned dropped = 0;
        unsigned told_once = 0;  ///< kinds of which one is enough
        bool ended = false;
        bool done = false;
    };

    std::shared_ptr<state> shared_;
    std::optional<typename Kernel::thread> thread_;
};

}  // namespace ublk::inline v0::detail
