// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/data/loop_flags.hpp>
#include <ublk/detail/fixed_array.hpp>
#include <ublk/device/device_ops.hpp>
#include <ublk/device/event_report.hpp>
#include <ublk/device/fallback_list.hpp>
#include <ublk/device/queue_context.hpp>
#include <ublk/device/thread_set_handle.hpp>
#include <ublk/device/threads_status.hpp>
#include <ublk/options.hpp>

#include <atomic>
#include <chrono>
#include <exception>
#include <memory>
#include <optional>
#include <stop_token>
#include <system_error>
#include <utility>
#include <vector>

namespace ublk::inline v0::detail {

/// The threads that serve one started device, its own or those of a set, and all that they share.
/// Threads hold it by shared_ptr: should a backend never return, its thread can be left behind
/// without anything being torn from under it.
template <class Kernel>
class queue_threads : public std::enable_shared_from_this<queue_threads<Kernel>> {
public:
    /// The device keeps `set`: this may end on a thread of it, which cannot wait for itself.
    queue_threads(const Kernel& running, device_ops<Kernel> ops, typename Kernel::channel channel,
                  device_setup setup, const thread_set_handle& set = {})
        : kernel_{running}, ops_{std::move(ops)}, channel_{std::move(channel)}, set_{set},
          setup_{std::move(setup)}, shares_{ops_.threads(setup_.shape)}, wakeups_(shares_.size()),
          progress_(shares_.size()), events_{running, setup_.requested.on_event, setup_.granted.id},
          parts_(shares_.size()) {
        set_.set = std::shared_ptr<void>{std::shared_ptr<void>{}, set.set.get()};
        check_shares(shares_, setup_.shape, ops_.single_queue);
        for (std::size_t i = 0; i < shares_.size(); ++i) {
            records_.push_back(ops_.make_record(shares_[i]));
            progress_[i].report_to(events_);
        }
    }

    /// Starts the threads. Throws `error` where the system has no thread left; those that started
    /// then serve until `request_exit`.
    void start() try {
        if (set_) {
            start_on_set();
            return;
        }
        threads_ = fixed_array<typename Kernel::thread>{shares_.size()};
        // All count from the beginning: one that fails at once would otherwise be the last one out
        // and close the channel on those that are still to start.
        status_.begun(shares_.size());
        std::size_t i = 0;
        try {
            for (; i < shares_.size(); ++i) {
                threads_[i] = typename Kernel::thread{
                    [self = this->shared_from_this(), i] { self->serve_alone(i); }};
            }
        } catch (...) {
            for (; i < shares_.size(); ++i) {
                status_left();
            }
            throw;
        }
    } catch (const std::system_error& none_left) {
        fail(none_left.code().value(), "starting a queue thread", setup_.granted.id,
             "the limit on threads is reached", "raise `ulimit -u`, or ask for fewer queues");
    }

    /// Waits until every tag is fetched. Rethrows what a thread failed with; false at the deadline.
    [[nodiscard]] bool ready(deadline until) { return status_.wait_ready(shares_.size(), until); }

    /// As `threads_status` has them.
    [[nodiscard]] bool gone(deadline until) { return status_.gone(until); }
    void gone(const std::stop_token& token) { status_.gone(token); }
    [[nodiscard]] int failure() const { return status_.failure(); }
    [[nodiscard]] unsigned ring_flags() const { return status_.ring_flags(); }

    /// START_DEV has ended, or is not going to be sent.
    void start_resolved() {
        status_.start_resolved();
        if (set_) {
            set_.wake(set_.set.get());
        }
    }

    /// From now on `progress` tells of every answer.
    void report() noexcept { flags_ |= loop_flags::report; }

    /// From now on answers every request with EIO: what is left of a stop, or of a start, then ends
    /// as soon as the backend has returned.
    void refuse() noexcept { set_flag(loop_flags::refuse); }

    /// Tells every thread to leave, whatever the driver still has of its tags.
    void request_exit() noexcept { set_flag(loop_flags::leave); }

    /// Joins the threads, which must be gone; the channel is closed by then.
    void join() {
        events_.finish(std::chrono::seconds{1});
        for (typename Kernel::thread& thread : threads_) {
            if (thread.joinable()) {
                thread.join();
            }
        }
        threads_ = {};
        // Where no thread ever started, none was the last one out.
        status_.if_gone([this] { close_channel(); });
    }

    /// Leaves threads behind that did not come back.
    void abandon() noexcept {
        for (typename Kernel::thread& thread : threads_) {
            if (thread.joinable()) {
                thread.detach();
            }
        }
        threads_ = {};
        abandoned_ = true;
    }

    [[nodiscard]] bool abandoned() const noexcept { return abandoned_; }

    [[nodiscard]] std::size_t size() const noexcept { return shares_.size(); }

    /// Of the measuring policy, one a thread; all the same from the beginning to the end.
    [[nodiscard]] const auto& records() const noexcept { return records_; }
    [[nodiscard]] const fixed_array<queue_progress>& progress() const noexcept { return progress_; }

    /// What was asked for and is not there; after `ready`.
    [[nodiscard]] auto fallbacks() const { return fallbacks_.all(); }

private:
    /// What one thread serves of the device. Used by that thread alone.
    struct part {
        std::optional<queue_context<Kernel>> context;
        any_queue_worker worker;
        std::optional<int> ended;  ///< with that code
        bool failed = false;       ///< before START_DEV has ended, the ring must stay
    };

    void set_flag(unsigned flag) noexcept {
        flags_ |= flag;
        for (const auto& wakeup : wakeups_) {
            wakeup.wake();
        }
    }

    /// The life of a thread of the device's own.
    void serve_alone(std::size_t index) noexcept {
        Kernel::this_thread_mark() = ops_.backend.get();
        part& mine = parts_[index];
        if (begin(index, nullptr)) {
            if (!mine.ended) {
                apply_scheduling(kernel_, ops_.scheduled);
                end(mine, mine.worker.run());
            }
            if (mine.failed) {
                status_.wait_until_start_resolved();
            }
        }
        leave(mine);
    }

    /// Gives each part to a thread of the set.
    void start_on_set() {
        std::vector<set_member> members;
        for (std::size_t i = 0; i < shares_.size(); ++i) {
            members.emplace_back(
                this->shared_from_this(), i,
                [](void* threads, std::size_t index, const void* wakeup_event) noexcept {
                    return static_cast<queue_threads*>(threads)->take_turn(index, wakeup_event);
                });
        }
        status_.begun(members.size());
        try {
            set_.assign(set_.set.get(), members.data(), members.size());  // all or none
        } catch (...) {
            for (std::size_t i = 0; i < shares_.size(); ++i) {
                status_left();
            }
            throw;
        }
    }

    /// What a thread of a set does for one part among others: as `serve_alone`, a step at a time
    /// and without waiting.
    worker_state take_turn(std::size_t index, const void* wakeup_event) noexcept {
        part& mine = parts_[index];
        if (mine.context || begin(index, wakeup_event)) {
            if (!mine.ended) {
                if (const worker_state now = mine.worker.turn(); now != worker_state::over) {
                    return now;
                }
                end(mine, mine.worker.end());
            }
            if (mine.failed && !status_.is_start_resolved()) {
                return worker_state::idle;
            }
        }
        leave(mine);
        return worker_state::over;
    }

    /// Gets a thread ready and offers its tags to the driver. False where there is nothing to end.
    [[nodiscard]] bool begin(std::size_t index, const void* wakeup_event) noexcept {
        part& mine = parts_[index];
        try {
            place_thread(index);
            mine.context.emplace(queue_context<Kernel>{.channel = *channel_,
                                                       .wakeup = wakeups_[index],
                                                       .flags = flags_,
                                                       .setup = setup_,
                                                       .mine = shares_[index],
                                                       .wakeup_event = wakeup_event,
                                                       .record = records_[index].get(),
                                                       .progress = progress_[index],
                                                       .fallbacks = fallbacks_});
            mine.worker = ops_.make_worker(ops_.backend.get(), *mine.context);
            if (const int code = mine.worker.fetch_all(); code == 0) {
                status_.ready(mine.worker.ring_flags());
            } else {
                status_.refused(setup_.fetch_refused(code));
                mine.ended = 0;
                mine.failed = true;  // some of the thread's tags may be with the driver
            }
            return true;
        } catch (...) {
            status_.refused(std::current_exception());
            return false;
        }
    }

    /// Those of a set are placed by it.
    void place_thread(std::size_t index) {
        const bool placed =
            set_ ? !*set_.misplaced
                 : kernel_.enter_queue_thread(ops_.cpus(setup_.place_of(shares_[index], index)));
        if (!placed) {
            fallbacks_.note(setup_.affinity_refused(static_cast<bool>(set_)));
        }
    }

    // Before 6.16, START_DEV goes on although a thread has left meanwhile, and the first request
    // for it then meets freed memory in the kernel. So a thread that fails keeps its ring until
    // START_DEV is through.
    void end(part& mine, int code) noexcept {
        mine.ended = code;
        mine.failed = code != 0;
        status_.failed(code);
        if (mine.failed) {
            events_.note_thread_lost(code);
        }
    }

    // One thread that stops serving stops the whole device (the driver cancels all queues), so a
    // failure sends everybody home, but not before START_DEV has ended: their rings would close
    // upon its tags. The last one out closes /dev/ublkcN, upon which the driver fails what is left:
    // nobody's client hangs because nobody called stop().
    void leave(part& mine) noexcept {
        if (mine.worker.left_behind()) {
            late_ = true;
        }
        mine.worker = any_queue_worker{};
        status_left();
    }
    void status_left() noexcept {
        status_.left([this] { request_exit(); }, [this] { close_channel(); });
    }

    // A late thread of the user's still has the number for the bytes of its request.
    void close_channel() noexcept {
        late_&& channel_ ? channel_->close_for_good() : void();
        channel_.reset();
    }

    Kernel kernel_;
    device_ops<Kernel> ops_;
    std::optional<typename Kernel::channel> channel_;
    thread_set_handle set_;
    device_setup setup_;
    std::vector<thread_shares> shares_;
    std::vector<std::shared_ptr<void>> records_;
    fixed_array<typename Kernel::wakeup> wakeups_;
    fixed_array<queue_progress> progress_;
    event_report<Kernel> events_;
    fallback_list<Kernel> fallbacks_;
    threads_status<Kernel> status_;
    fixed_array<part> parts_;
    fixed_array<typename Kernel::thread> threads_;
    std::atomic<unsigned> flags_ = loop_flags::serve;
    std::atomic<bool> late_ = false;
    bool abandoned_ = false;
};

}  // namespace ublk::inline v0::detail
