// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/backend.hpp>
#include <ublk/detail/abandoned.hpp>
#include <ublk/device/device_lifecycle.hpp>
#include <ublk/device/device_ops.hpp>
#include <ublk/device/device_view.hpp>
#include <ublk/device/thread_set_handle.hpp>
#include <ublk/disk_attributes.hpp>
#include <ublk/kernel/kernel.hpp>
#include <ublk/kernel/linux_kernel.hpp>
#include <ublk/kernel/process_owner.hpp>
#include <ublk/options.hpp>
#include <ublk/policy/measuring.hpp>
#include <ublk/policy/per_cpu.hpp>
#include <ublk/policy/per_wakeup.hpp>

#include <atomic>
#include <concepts>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace ublk::inline v0 {

/// A block device, /dev/ublkbN, that this process serves.
///
/// `Backend` is what it stores (see backend.hpp), `QueuePolicy` which thread serves what,
/// `BatchPolicy` when completions go back to the kernel. `Kernel` is the real one by default.
///
/// All members may be called from any thread but the queue threads (that is, not from the backend).
/// The device is removed by `stop` or the destructor; a process that is killed leaves a dead
/// /dev/ublkcN behind, without a disk.
///
/// A device belongs to the process that starts it. In a child that is forked later `state` is
/// `of_parent`, `start`, `stop` and `wait` throw, the destructor does nothing, and nothing of it
/// keeps the disk when the parent dies.
template <class Backend, class QueuePolicy = per_cpu, class BatchPolicy = per_wakeup,
          class Kernel = linux_kernel>
class device {
    static_assert(check_backend<Backend>());

public:
    /// Nothing happens yet.
    explicit device(Backend backend, options asked = {}, Kernel kernel = {})
        : device{std::make_shared<Backend>(std::move(backend)), std::move(asked),
                 std::move(kernel)} {}

    /// The same with a backend that others refer to as well, or that cannot be moved.
    explicit device(std::shared_ptr<Backend> backend, options asked = {}, Kernel kernel = {})
        : backend_{std::move(backend)}, asked_{std::move(asked)}, kernel_{std::move(kernel)} {
        static_assert(!on_thread_set<QueuePolicy>,
                      "ublk: a device with the queue policy pooled is made with a thread set: "
                      "ublk::thread_set threads; device{backend, threads}");
        UBLK_ASSERT(backend_ != nullptr, "a device has a backend");
    }

    /// The same on the threads of a `thread_set`, with the queue policy `pooled`.
    template <class Set>
        requires requires(const Set& set) {
            { set.handle() } -> std::same_as<set_handle>;
        }
    device(Backend backend, const Set& threads, options asked = {}, Kernel kernel = {})
        : device{std::make_shared<Backend>(std::move(backend)), threads, std::move(asked),
                 std::move(kernel)} {}
    template <class Set>
        requires requires(const Set& set) {
            { set.handle() } -> std::same_as<set_handle>;
        }
    device(std::shared_ptr<Backend> backend, const Set& threads, options asked = {},
           Kernel kernel = {})
        : backend_{std::move(backend)}, set_{threads.handle()}, asked_{std::move(asked)},
          kernel_{std::move(kernel)} {
        static_assert(on_thread_set<QueuePolicy>,
                      "ublk: a device on a thread set has the queue policy ublk::pooled");
        UBLK_ASSERT(backend_ != nullptr, "a device has a backend");
    }

    device(const device&) = delete;
    device& operator=(const device&) = delete;

    /// Stops the device as `stop` does; what goes wrong then has nobody to hear of it.
    ///
    /// In a child that was forked since the start it lets go at once: the device is its parent's.
    ~device() {
        if (in_child()) {
            leave_to_parent();
            return;
        }
        try {
            stop();
        } catch (...) {
        }
    }

    /// Adds, configures and starts the device; when this returns /dev/ublkbN is usable. Throws
    /// `error` and leaves nothing behind where that fails, each step within
    /// `options::command_deadline`.
    void start() {
        refuse_child("start");
        refuse_queue_thread("start");
        const std::lock_guard lock{lifecycle_};
        if (session_) {
            fail(EALREADY, "start", session_->info().id, "the device is started already",
                 "call stop first");
        }
        const disk_attributes disk = attributes_of(*backend_);
        validate(asked_, kernel_.page_size());
        validate(disk, static_cast<std::uint32_t>(kernel_.page_size()));
        detail::demand_recent_kernel(kernel_.version());
        state_ = device_state::starting;
        try {
            owner_.claim(kernel_.this_process());
            session_ = std::make_unique<session<Kernel>>(kernel_, asked_, set_);
            auto duty = service_of<Backend, QueuePolicy, BatchPolicy, Kernel>(backend_);
            if constexpr (on_thread_set<QueuePolicy>) {
                duty.join_set = crew<Kernel>::join_set;
            }
            session_->open(duty, disk);
            view_.publish(session_->info(), session_->threads());
            state_ = device_state::live;
        } catch (...) {
            if (session_) {
                session_->give_up();
            }
            retire();
            throw;
        }
    }

    /// Removes the disk and the device: writes dirty pages back through the backend, lets requests
    /// in flight finish, ends the threads. Does nothing on a device that is not started. Throws
    /// `error` where something did not end within its deadline; after `options::stop_deadline` the
    /// requests that are left fail with EIO. With a backend that never returns its thread is left
    /// behind, and the thread that called stop cannot end before the backend returns.
    ///
    /// A process that gets SIGKILL meanwhile, while it owns a request, does not die: the kernel
    /// (6.12, 7.3) waits in its exit for STOP_DEV, which waits for the request.
    void stop() {
        refuse_child("stop");
        refuse_queue_thread("stop");
        stop(nullptr);
    }

    /// Waits until the device is stopped by another thread, ends by itself, or `token` is
    /// triggered; stops it in the last two cases. Throws `error` where the queue threads failed,
    /// and as `stop` does.
    void wait(const std::stop_token& token = {}) {
        refuse_child("wait");
        refuse_queue_thread("wait");
        const std::shared_ptr<crew<Kernel>> threads = view_.threads(false);
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

    /// "/dev/ublkbN"; empty before the first start.
    [[nodiscard]] std::string path() const { return view_.node("/dev/ublkb", in_child()); }

    /// "/dev/ublkcN"; empty before the first start.
    [[nodiscard]] std::string char_path() const { return view_.node("/dev/ublkc", in_child()); }

    /// N, as granted by the last start.
    [[nodiscard]] std::uint32_t id() const { return info().id; }

    /// What the last start was granted.
    [[nodiscard]] device_info info() const { return view_.info(in_child()); }

    [[nodiscard]] device_state state() const {
        if (in_child()) {
            return device_state::of_parent;
        }
        const device_state now = state_;
        if (now == device_state::live) {
            const std::shared_ptr<crew<Kernel>> threads = view_.threads(false);
            if (threads && threads->gone(deadline{})) {
                return device_state::failed;
            }
        }
        return now;
    }

    /// What is counted since the last start that succeeded, which stays after the stop; empty
    /// before the first. No request waits for it.
    template <class Measuring = measuring_of<QueuePolicy>>
    [[nodiscard]] auto stats() const {
        static_assert(!std::is_same_v<Measuring, no_stats>,
                      "ublk: this device counts nothing: take ublk::with<ublk::per_cpu, "
                      "ublk::stats> as its queue policy, or another one in place of per_cpu");
        return Measuring::read(view_.counted(in_child()));
    }

    /// The queue threads use it at the same time.
    [[nodiscard]] Backend& backend() noexcept { return *backend_; }
    [[nodiscard]] const Backend& backend() const noexcept { return *backend_; }

private:
    /// What a forked child must not end: it stays as it is.
    struct remains : detail::abandoned {
        std::unique_ptr<session<Kernel>> of;
        std::shared_ptr<crew<Kernel>> threads;
    };

    void leave_to_parent() noexcept {
        auto* const all = new remains;
        all->of = std::move(session_);
        all->threads = view_.threads(true);
        detail::abandon(all);
    }

    void refuse_child(const char* what) const {
        owner_.demand(kernel_, what);
        if (set_) {
            set_.owner->demand(kernel_, what);
        }
    }

    void refuse_queue_thread(const char* what) const {
        if (serves_here<Kernel>(backend_.get(), set_)) {
            fail(EDEADLK, what, std::nullopt,
                 "called from the backend, on a thread that it would wait for",
                 "let another thread call it");
        }
    }

    /// `only`: no other crew than that one, which may have been stopped and followed by another
    /// since the caller looked. Null: whichever there is.
    void stop(const crew<Kernel>* only) {
        const std::lock_guard lock{lifecycle_};
        if (!session_ || (only != nullptr && session_->threads().get() != only)) {
            return;
        }
        state_ = device_state::stopping;
        try {
            session_->close();
        } catch (...) {
            retire();
            throw;
        }
        retire();
    }

    void retire() noexcept {
        view_.retire();
        session_.reset();
        state_ = device_state::idle;
        owner_.release();
    }

    [[nodiscard]] bool in_child() const noexcept { return owner_.elsewhere(kernel_); }

    std::shared_ptr<Backend> backend_;
    set_handle set_{};
    options asked_;
    Kernel kernel_;

    typename Kernel::mutex lifecycle_;  ///< start and stop, one at a time
    std::unique_ptr<session<Kernel>> session_;
    detail::process_owner owner_;  ///< nobody while it is not started
    std::atomic<device_state> state_ = device_state::idle;

    device_view<typename Kernel::mutex, crew<Kernel>> view_;
};

}  // namespace ublk::inline v0
