// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/detail/abandoned.hpp>
#include <ublk/device/device_lifecycle.hpp>
#include <ublk/device/device_ops.hpp>
#include <ublk/device/queue_threads.hpp>
#include <ublk/device/thread_set_handle.hpp>
#include <ublk/kernel/process_owner.hpp>
#include <ublk/options.hpp>

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

namespace ublk::inline v0 {

/// All of a `device` but its types: what they decide is in `device_ops`. Its public functions are
/// documented there.
template <class Kernel>
class device_core {
public:
    using records = std::vector<std::shared_ptr<void>>;

    device_core(device_ops<Kernel> ops, thread_set_handle set, options requested, Kernel kernel)
        : ops_{std::move(ops)}, set_{std::move(set)},
          requested_{std::move(requested)}, kernel_{std::move(kernel)} {}
    device_core(const device_core&) = delete;
    device_core& operator=(const device_core&) = delete;
    ~device_core() {
        if (in_child()) {
            leave_to_parent();
            return;
        }
        try {
            stop();
        } catch (...) {
        }
    }

    void start() {
        refuse_child("start");
        refuse_queue_thread("start");
        const std::lock_guard lock{start_stop_};
        if (lifecycle_) {
            fail(EALREADY, "start", lifecycle_->info().id, "the device is started already",
                 "call stop first");
        }
        const disk_attributes disk = ops_.attributes(ops_.backend.get());
        validate(requested_, kernel_.page_size());
        validate(disk, static_cast<std::uint32_t>(kernel_.page_size()));
        detail::demand_recent_kernel(kernel_.version());
        state_ = device_state::starting;
        try {
            owner_.claim(kernel_.this_process());
            lifecycle_ = std::make_unique<device_lifecycle<Kernel>>(kernel_, requested_, set_);
            lifecycle_->open(ops_, disk);
            publish();
            state_ = device_state::live;
        } catch (...) {
            if (lifecycle_) {
                lifecycle_->give_up();
            }
            retire();
            throw;
        }
    }

    void stop() {
        refuse_child("stop");
        refuse_queue_thread("stop");
        stop(nullptr);
    }

    void wait(const std::stop_token& token) {
        refuse_child("wait");
        refuse_queue_thread("wait");
        const std::shared_ptr<queue_threads<Kernel>> threads = current_threads();
        if (!threads) {
            return;
        }
        threads->gone(token);
        stop(threads.get());
        if (const int code = threads->failure(); code != 0) {
            fail(code, "serving", info().id, "the driver or the ring refused a queue thread",
                 "see dmesg; the device is removed and can be started again");
        }
    }

    /// "" before the first start.
    [[nodiscard]] std::string node(const char* prefix) const {
        const auto lock = look();
        return started_once_ ? prefix + std::to_string(info_.id) : std::string{};
    }

    [[nodiscard]] device_info info() const {
        const auto lock = look();
        return info_;
    }

    [[nodiscard]] device_state state() const {
        if (in_child()) {
            return device_state::of_parent;
        }
        const device_state now = state_;
        if (now == device_state::live) {
            const std::shared_ptr<queue_threads<Kernel>> threads = current_threads();
            if (threads && threads->gone(deadline{})) {
                return device_state::failed;
            }
        }
        return now;
    }

    /// What the measuring policy has written down since the last start.
    [[nodiscard]] records counted() const {
        const auto lock = look();
        return records_;
    }

private:
    /// What a forked child must not end: it stays as it is.
    struct remains : detail::abandoned {
        std::unique_ptr<device_lifecycle<Kernel>> lifecycle;
        std::shared_ptr<queue_threads<Kernel>> threads;
    };

    void leave_to_parent() noexcept {
        auto* const all = new remains;
        all->lifecycle = std::move(lifecycle_);
        all->threads = std::move(threads_);
        detail::abandon(all);
    }

    void refuse_child(const char* call) const {
        owner_.demand(kernel_, call);
        if (set_) {
            set_.owner->demand(kernel_, call);
        }
    }

    void refuse_queue_thread(const char* call) const {
        if (serves_here<Kernel>(ops_.backend.get(), set_)) {
            fail(EDEADLK, call, std::nullopt,
                 "called from the backend, on a thread that it would wait for",
                 "let another thread call it");
        }
    }

    /// `only`: no other threads than these, which may have been stopped and followed by others
    /// since the caller looked. Null: whichever there are.
    void stop(const queue_threads<Kernel>* only) {
        const std::lock_guard lock{start_stop_};
        if (!lifecycle_ || (only != nullptr && lifecycle_->threads().get() != only)) {
            return;
        }
        state_ = device_state::stopping;
        try {
            lifecycle_->close();
        } catch (...) {
            retire();
            throw;
        }
        retire();
    }

    void publish() {
        const std::lock_guard lock{view_};
        info_ = lifecycle_->info();
        threads_ = lifecycle_->threads();
        records_ = threads_->records();
        started_once_ = true;
    }

    /// The threads are gone; what was granted and counted stays.
    void retire() noexcept {
        {
            const std::lock_guard lock{view_};
            threads_.reset();
        }
        lifecycle_.reset();
        state_ = device_state::idle;
        owner_.release();
    }

    [[nodiscard]] std::shared_ptr<queue_threads<Kernel>> current_threads() const {
        const auto lock = look();
        return threads_;
    }

    /// In a child that was forked meanwhile nobody else changes anything, and the lock may be held
    /// by a thread that is not there.
    [[nodiscard]] std::unique_lock<typename Kernel::mutex> look() const {
        using lock = std::unique_lock<typename Kernel::mutex>;
        return in_child() ? lock{} : lock{view_};
    }

    [[nodiscard]] bool in_child() const noexcept { return owner_.elsewhere(kernel_); }

    device_ops<Kernel> ops_;
    thread_set_handle set_;
    options requested_;
    Kernel kernel_;

    typename Kernel::mutex start_stop_;  ///< one at a time
    std::unique_ptr<device_lifecycle<Kernel>> lifecycle_;
    detail::process_owner owner_;  ///< nobody while it is not started
    std::atomic<device_state> state_ = device_state::idle;

    // What any thread may ask while another one starts or stops the device.
    mutable typename Kernel::mutex view_;
    std::shared_ptr<queue_threads<Kernel>> threads_;
    records records_;
    device_info info_;
    bool started_once_ = false;
};

}  // namespace ublk::inline v0
