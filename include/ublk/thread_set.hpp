// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/detail/abandoned.hpp>
#include <ublk/detail/cpu_set.hpp>
#include <ublk/device/thread_set_handle.hpp>
#include <ublk/error.hpp>
#include <ublk/kernel/host.hpp>
#include <ublk/kernel/linux_kernel.hpp>
#include <ublk/kernel/process_owner.hpp>
#include <ublk/policy/scheduling.hpp>
#include <ublk/policy/wait.hpp>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <memory>
#include <mutex>
#include <system_error>
#include <utility>
#include <vector>

namespace ublk::inline v0 {

/// How many threads a `thread_set` has, and how they wait.
struct thread_set_options {
    /// Threads. Range: 1 to 4096; 0: one for each online CPU.
    unsigned threads = 0;

    /// A CPU for each thread, in turn; empty: the scheduler's choice.
    std::vector<unsigned> cpus{};

    /// How long a thread looks for requests before it sleeps. Range: 0 to 1 h.
    std::chrono::nanoseconds spin{0};

    /// How the scheduler treats a thread that a request wakes up.
    scheduling scheduled = scheduling::automatic;

    /// How long the end of the set waits for its threads. A thread whose backend never returns is
    /// left behind then. Range: at least 1 ms.
    time_limit deadline = std::chrono::seconds{10};
};

/// Threads that serve the queues of any number of devices together, with the queue policy `pooled`.
/// Copies mean the same threads, which end after the last copy and the last device.
///
///     ublk::thread_set threads{{.threads = 4}};
///     ublk::device<ram, ublk::pooled> a{ram{}, threads}, b{ram{}, threads};
template <class Kernel>
class basic_thread_set {
public:
    /// Throws: `error`: EINVAL for options out of range, EAGAIN where the limit on threads is
    /// reached.
    explicit basic_thread_set(const thread_set_options& requested = {}, Kernel running = {})
        : all_{std::make_shared<thread_owner>(
              std::make_shared<state>(requested, std::move(running)))} {}

    [[nodiscard]] std::size_t size() const noexcept { return all_->shared->threads.size(); }

    /// For `device`.
    [[nodiscard]] detail::thread_set_handle handle() const {
        return {
            .set = all_,
            .threads = size(),
            .owner = &all_->shared->owner,
            .mark = all_->shared.get(),
            .misplaced = &all_->shared->misplaced,
            .assign =
                [](void* set, detail::set_member* members, std::size_t count) {
                    static_cast<thread_owner*>(set)->shared->assign(members, count);
                },
            .wake = [](void* set) noexcept { static_cast<thread_owner*>(set)->shared->wake(); }};
    }

private:
    using wakeup_event = typename Kernel::wakeup_event;

    struct set_thread {
        typename Kernel::wakeup_event wakeup_event;
        std::atomic<bool> attention = false;  ///< something to take over, or the order to leave
        std::vector<detail::set_member> incoming;  ///< under the mutex
    };

    struct state {
        state(const thread_set_options& options, Kernel on)
            : requested{options}, kernel{std::move(on)} {
            const unsigned count = options.threads != 0 ? options.threads : kernel.online_cpus();
            constexpr unsigned most = 4096;
            if (count > most || options.spin.count() < 0 || options.spin > std::chrono::hours{1} ||
                !options.deadline.positive()) {
                fail(EINVAL, "making a thread set", std::nullopt, "an option is out of range",
                     "choose 1 to 4096 threads, spin of 0 to 1 h, a deadline of at least 1 ms");
            }
            for (unsigned i = 0; i < count; ++i) {
                threads.push_back(std::make_unique<set_thread>());
            }
        }

        void assign(detail::set_member* members, std::size_t count) {
            const std::lock_guard lock{mutex};
            for (const auto& each : threads) {  // so that nothing can fail halfway
                each->incoming.reserve(each->incoming.size() + count);
            }
            for (std::size_t i = 0; i < count; ++i) {
                set_thread& to = *threads[next++ % threads.size()];
                to.incoming.push_back(std::move(members[i]));
                to.attention = true;
                to.wakeup_event.wake();
            }
        }

        void wake() noexcept {
            for (const auto& each : threads) {
                each->wakeup_event.wake();
            }
        }

        thread_set_options requested;
        Kernel kernel;
        detail::process_owner owner{kernel};
        std::vector<std::unique_ptr<set_thread>> threads;
        typename Kernel::mutex mutex;
        std::size_t next = 0;  ///< thread to give something to
        typename Kernel::condition changed;
        std::size_t at_work = 0;
        bool leave = false;
        std::atomic<bool> misplaced = false;  ///< a thread may not run on the CPU asked for
    };

    /// The threads, which end with it.
    struct thread_owner {
        explicit thread_owner(std::shared_ptr<state> common) : shared{std::move(common)} {
            try {
                const std::lock_guard lock{shared->mutex};
                for (std::size_t i = 0; i < shared->threads.size(); ++i) {
                    threads.emplace_back([all = shared, i] { work(*all, i); });
                    ++shared->at_work;
                }
            } catch (const std::system_error& none_left) {
                dismiss();
                fail(none_left.code().value(), "starting the threads of a set", std::nullopt,
                     "the limit on threads is reached", "raise `ulimit -u`, or ask for fewer");
            } catch (...) {
                dismiss();
                throw;
            }
        }
        thread_owner(const thread_owner&) = delete;
        thread_owner& operator=(const thread_owner&) = delete;
        ~thread_owner() { dismiss(); }

        void dismiss() noexcept {
            if (shared->owner.elsewhere(shared->kernel)) {  // none of them is here
                detail::abandon(new remains{{}, std::move(threads)});
                return;
            }
            bool gone = false;
            {
                std::unique_lock lock{shared->mutex};
                shared->leave = true;
                for (const auto& each : shared->threads) {
                    each->attention = true;
                    each->wakeup_event.wake();
                }
                gone = shared->changed.wait_until(
                    lock, detail::from_now(shared->kernel, shared->requested.deadline),
                    [this] { return shared->at_work == 0; });
            }
            for (typename Kernel::thread& each : threads) {
                gone ? each.join() : each.detach();
            }
            threads.clear();
        }

        struct remains : detail::abandoned {
            std::vector<typename Kernel::thread> threads;
        };

        std::shared_ptr<state> shared;
        std::vector<typename Kernel::thread> threads;
    };

    static void work(state& s, std::size_t index) noexcept {
        cpu_set cpus;
        if (!s.requested.cpus.empty()) {
            cpus.insert(s.requested.cpus[index % s.requested.cpus.size()]);
        }
        if (!s.kernel.enter_queue_thread(cpus)) {
            s.misplaced = true;
        }
        detail::apply_scheduling(s.kernel, s.requested.scheduled);
        Kernel::this_thread_mark() = &s;
        set_thread& mine = *s.threads[index];
        std::vector<detail::set_member> members;
        detail::deadline busy_until = s.kernel.now();
        while (!(mine.attention.exchange(false) && take_over(s, mine, members))) {
            if (serve_all(mine.wakeup_event, members)) {
                busy_until = s.kernel.now() + s.requested.spin;
            } else if (members.empty() || s.requested.spin.count() == 0 ||
                       s.kernel.now() >= busy_until) {
                mine.wakeup_event.wait();
                busy_until = s.kernel.now() + s.requested.spin;
            } else {
                detail::relax();
            }
        }
        const std::lock_guard lock{s.mutex};
        --s.at_work;
        s.changed.notify_all();
    }

    /// Whether to leave. Devices keep the set, so then nobody is left; but for one whose backend
    /// never returns, which was left behind.
    [[nodiscard]] static bool take_over(state& s, set_thread& mine,
                                        std::vector<detail::set_member>& members) {
        const std::lock_guard lock{s.mutex};
        for (detail::set_member& each : mine.incoming) {
            members.push_back(std::move(each));
        }
        mine.incoming.clear();
        return s.leave;
    }

    /// Whether any had something to do.
    [[nodiscard]] static bool serve_all(const wakeup_event& mine,
                                        std::vector<detail::set_member>& members) {
        bool any = false;
        for (std::size_t i = 0; i < members.size();) {
            const detail::worker_state now = members[i].serve(&mine);
            any = any || now != detail::worker_state::idle;
            if (now == detail::worker_state::over) {
                members.erase(members.begin() + static_cast<std::ptrdiff_t>(i));
            } else {
                ++i;
            }
        }
        return any;
    }

    std::shared_ptr<thread_owner> all_;
};

using thread_set = basic_thread_set<detail::linux_kernel>;

}  // namespace ublk::inline v0
