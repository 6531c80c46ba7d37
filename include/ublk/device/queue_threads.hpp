// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/config.hpp>
#include <ublk/detail/cpu_set.hpp>
#include <ublk/detail/fixed_array.hpp>
#include <ublk/device/device_ops.hpp>
#include <ublk/device/failure_report.hpp>
#include <ublk/device/fallback_list.hpp>
#include <ublk/device/queue_context.hpp>
#include <ublk/device/set_workers.hpp>
#include <ublk/device/thread_set_handle.hpp>
#include <ublk/kernel/kernel.hpp>
#include <ublk/options.hpp>

#include <atomic>
#include <chrono>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <system_error>
#include <utility>
#include <vector>

namespace ublk::inline v0 {

/// The threads that serve one started device, and all that they share. Threads hold it by
/// shared_ptr: should a backend never return, its thread can be left behind without anything being
/// torn from under it.
template <class Kernel>
class crew : public std::enable_shared_from_this<crew<Kernel>> {
public:
    /// The device keeps `set`: a crew may end on a thread of it, which cannot wait for itself.
    crew(const Kernel& running, service<Kernel> duty, typename Kernel::channel channel,
         device_plan what, const set_handle& set = {}, trouble_listener log = nullptr)
        : kernel_{running}, duty_{std::move(duty)}, channel_{std::move(channel)}, set_{set},
          plan_{std::move(what)}, shifts_{duty_.threads(plan_.shape)}, wakers_(shifts_.size()),
          progress_(shifts_.size()), troubles_{running, log, plan_.granted.id} {
        set_.set = std::shared_ptr<void>{std::shared_ptr<void>{}, set.set.get()};
        detail::check_shares(shifts_, plan_.shape, duty_.one_queue_a_thread);
        for (std::size_t i = 0; i < shifts_.size(); ++i) {
            records_.push_back(duty_.make_record(shifts_[i]));
            progress_[i].report_to(troubles_);
        }
    }

    /// Starts the threads. Throws `error` where the system has no thread left; those that started
    /// then serve until `dismiss`.
    void muster() try {
        if (set_) {
            duty_.join_set(this);
            return;
        }
        threads_ = fixed_array<typename Kernel::thread>{shifts_.size()};
        // Nobody leaves before all have come: one that fails at once would otherwise be the last
        // one out and close the channel on those that are still to start.
        const std::lock_guard lock{mutex_};
        for (std::size_t i = 0; i < shifts_.size(); ++i) {
            threads_[i] =
                typename Kernel::thread{[self = this->shared_from_this(), i] { self->work(i); }};
            ++at_work_;
        }
    } catch (const std::system_error& none_left) {
        fail(none_left.code().value(), "starting a queue thread", plan_.granted.id,
             "the limit on threads is reached", "raise `ulimit -u`, or ask for fewer queues");
    }

    /// Waits until every tag is fetched. Rethrows what a thread failed with; false at the deadline.
    [[nodiscard]] bool ready(deadline until) {
        std::unique_lock lock{mutex_};
        const bool settled = changed_.wait_until(
            lock, until, [this] { return trouble_ != nullptr || ready_ == shifts_.size(); });
        if (trouble_ != nullptr) {
            std::rethrow_exception(trouble_);
        }
        return settled;
    }

    /// Waits until no thread is left; false at the deadline.
    [[nodiscard]] bool gone(deadline until) {
        std::unique_lock lock{mutex_};
        return changed_.wait_until(lock, until, [this] { return at_work_ == 0; });
    }

    /// Waits until no thread is left, or until `token` is triggered.
    void gone(const std::stop_token& token) {
        std::unique_lock lock{mutex_};
        changed_.wait(lock, token, [this] { return at_work_ == 0; });
    }

    /// START_DEV has ended, or is not going to be sent.
    void decided() {
        {
            const std::lock_guard lock{mutex_};
            decided_ = true;
            changed_.notify_all();
        }
        if (set_) {
            set_.ring(set_.set.get());
        }
    }

    /// From now on `progress` tells of every answer.
    void report() noexcept { orders_ |= orders::report; }

    /// From now on answers every request with EIO: what is left of a stop, or of a start, then ends
    /// as soon as the backend has returned.
    void refuse() noexcept { tell(orders::refuse); }

    /// Tells every thread to leave, whatever the driver still has of its tags.
    void dismiss() noexcept { tell(orders::leave); }

    /// Joins the threads, which must be gone; the channel is closed by then.
    void disband() {
        troubles_.finish(std::chrono::seconds{1});
        for (typename Kernel::thread& thread : threads_) {
            if (thread.joinable()) {
                thread.join();
            }
        }
        threads_ = {};
        const std::lock_guard lock{mutex_};
        if (at_work_ == 0) {
            close_channel();  // where no thread ever started, none was the last one out
        }
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

    /// 0, or the errno (negative) with which the first thread failed while serving.
    [[nodiscard]] int failure() const {
        const std::lock_guard lock{mutex_};
        return failure_;
    }

    [[nodiscard]] std::size_t size() const noexcept { return shifts_.size(); }

    /// Of the measuring policy, one a thread; all the same from the beginning to the end.
    [[nodiscard]] const auto& records() const noexcept { return records_; }
    [[nodiscard]] const fixed_array<queue_progress>& progress() const noexcept { return progress_; }

    /// IORING_SETUP_* of the threads' rings; after `ready`.
    [[nodiscard]] unsigned ring_flags() const {
        const std::lock_guard lock{mutex_};
        return ring_flags_;
    }

    /// What was asked for and is not there; after `ready`.
    [[nodiscard]] auto fallbacks() const { return fallbacks_.all(); }

    static void join_set(void* me) { set_seats<crew>::join(*static_cast<crew*>(me)); }

private:
    friend struct set_seats<crew>;

    void tell(unsigned what) noexcept {
        orders_ |= what;
        for (const auto& waker : wakers_) {
            waker.wake();
        }
    }

    void work(std::size_t index) noexcept {
        int code = 0;
        Kernel::this_thread_mark() = duty_.backend.get();
        try {
            prepare_thread(index);
            code = serve(index);
        } catch (...) {
            note_trouble();
        }
        leave(code);
    }

    void prepare_thread(std::size_t index) {
        if (!kernel_.enter_queue_thread(duty_.cpus(plan_.place_of(shifts_[index], index)))) {
            fallbacks_.note(plan_.affinity_refused());
        }
    }

    int serve(std::size_t index) { return duty_.serve(duty_.backend.get(), post(index, nullptr)); }

    [[nodiscard]] queue_post<Kernel> post(std::size_t index, const void* bell) {
        return {
            .channel = *channel_,
            .waker = wakers_[index],
            .orders = orders_,
            .plan = plan_,
            .mine = shifts_[index],
            .bell = bell,
            .record = records_[index].get(),
            .progress = progress_[index],
            .whom = this,
            .ready = [](void* me, unsigned flags) { static_cast<crew*>(me)->report_ready(flags); },
            .refused = [](void* me, int code) { static_cast<crew*>(me)->note_refusal(code); },
            .failed = [](void* me, int code) { static_cast<crew*>(me)->wait_for_outcome(code); },
            .late = [](void* me) noexcept { static_cast<crew*>(me)->late_ = true; },
            .fallbacks = fallbacks_};
    }

    void note_trouble(std::exception_ptr what = std::current_exception()) noexcept {
        const std::lock_guard lock{mutex_};
        trouble_ = trouble_ ? trouble_ : std::move(what);
        changed_.notify_all();
    }

    // Some of the thread's tags may be with the driver.
    void note_refusal(int code) {
        note_trouble(queue_post<Kernel>::refused_fetch(code, plan_.granted));
        if (!set_) {
            wait_for_outcome(0);
        }
    }

    // Before 6.16, START_DEV goes on although a thread has left meanwhile, and the first request
    // for it then meets freed memory in the kernel. So a thread that fails keeps its ring until
    // START_DEV is through.
    void wait_for_outcome(int failed) {
        std::unique_lock lock{mutex_};
        failure_ = failure_ != 0 ? failure_ : failed;
        changed_.notify_all();
        changed_.wait(lock, std::stop_token{}, [this] { return decided_; });
    }

    void report_ready(unsigned ring_flags) {
        const std::lock_guard lock{mutex_};
        ++ready_;
        ring_flags_ = ring_flags;
        changed_.notify_all();
    }

    // One thread that stops serving stops the whole device (the driver cancels all queues), so a
    // failure sends everybody home, but not before START_DEV has ended: their rings would close
    // upon its tags. The last one out closes /dev/ublkcN, upon which the driver fails what is left:
    // nobody's client hangs because nobody called stop().
    void leave(int code) noexcept {
        const std::lock_guard lock{mutex_};
        if (code != 0 && failure_ == 0) {
            failure_ = code;
        }
        if (decided_ && (failure_ != 0 || trouble_ != nullptr)) {
            dismiss();
        }
        if (--at_work_ == 0) {
            close_channel();
        }
        changed_.notify_all();
    }

    // A late thread of the user's still has the number for the bytes of its request.
    void close_channel() noexcept {
        late_&& channel_ ? channel_->close_for_good() : void();
        channel_.reset();
    }

    Kernel kernel_;
    service<Kernel> duty_;
    std::optional<typename Kernel::channel> channel_;
    set_handle set_;
    device_plan plan_;
    std::vector<thread_shares> shifts_;
    std::vector<std::shared_ptr<void>> records_;
    fixed_array<typename Kernel::waker> wakers_;
    fixed_array<queue_progress> progress_;
    trouble_report<Kernel> troubles_;
    fallback_list<Kernel> fallbacks_;
    fixed_array<typename Kernel::thread> threads_;
    fixed_array<set_chair<Kernel>> chairs_;
    std::atomic<unsigned> orders_ = orders::serve;
    std::atomic<bool> late_ = false;
    bool abandoned_ = false;

    mutable typename Kernel::mutex mutex_;
    typename Kernel::condition changed_;
    std::exception_ptr trouble_;
    std::size_t ready_ = 0;
    std::size_t at_work_ = 0;
    unsigned ring_flags_ = 0;
    int failure_ = 0;
    bool decided_ = false;
};

}  // namespace ublk::inline v0
