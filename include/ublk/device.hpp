// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/backend.hpp>
#include <ublk/config.hpp>
#include <ublk/device/backend_ops.hpp>
#include <ublk/device/device_core.hpp>
#include <ublk/device/thread_set_handle.hpp>
#include <ublk/event.hpp>
#include <ublk/kernel/linux_kernel.hpp>
#include <ublk/options.hpp>
#include <ublk/policy/batch_policy.hpp>
#include <ublk/policy/measuring.hpp>
#include <ublk/policy/queue_policies.hpp>

#include <concepts>
#include <cstdint>
#include <memory>
#include <stop_token>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace ublk::inline v0 {

/// A block device, /dev/ublkbN, that this process serves.
///
/// `Backend` stores the data (see backend.hpp), `QueuePolicy` says which thread serves what,
/// `BatchPolicy` when completions go back to the kernel. `Kernel` is the real one by default.
///
/// `stop` or the destructor removes the device. A process that is killed leaves a dead /dev/ublkcN
/// behind, without a disk; or, with `options::recovery`, a disk that a next process recovers.
///
/// A device belongs to the process that starts it. In a child that is forked later `state` is
/// `of_parent`, `start`, `stop` and `wait` throw, the destructor does nothing, and the child does
/// not keep the disk when the parent dies.
///
/// Thread: any but the queue threads, so none of the backend's functions may call a member. Members
/// may be called at the same time.
/// Kernel: 6.8; /dev/ublk-control needs CAP_SYS_ADMIN.
template <class Backend, class QueuePolicy = per_cpu, class BatchPolicy = per_wakeup,
          class Kernel = detail::linux_kernel>
class device {
    static_assert(!std::is_reference_v<Backend>,
                  "ublk: a device keeps its backend: hand over a std::shared_ptr<Backend> of what "
                  "others refer to as well");
    static_assert(check_backend<Backend>());
    using traits = queue_policy_traits<QueuePolicy>;

public:
    /// Keeps the backend and the options; the kernel is not asked before `start`.
    explicit device(Backend backend, options requested = {}, Kernel kernel = {})
        : device{shared(std::move(backend)), std::move(requested), std::move(kernel)} {}

    /// Constructs the backend in place from `arguments`: for one that cannot be moved.
    template <class... Arguments>
    explicit device(std::in_place_t, options requested, Arguments&&... arguments)
        : device{std::make_shared<Backend>(std::forward<Arguments>(arguments)...),
                 std::move(requested)} {}

    /// Shares a backend that others use as well, or that cannot be moved. It is not null.
    explicit device(std::shared_ptr<Backend> backend, options requested = {}, Kernel kernel = {})
        : device{detail::thread_set_handle{}, std::move(backend), std::move(requested),
                 std::move(kernel)} {
        static_assert(!traits::on_thread_set,
                      "ublk: a device with the queue policy pooled is made with a thread set: "
                      "ublk::thread_set threads; device{backend, threads}");
    }

    /// A device whose queues the threads of a `thread_set` serve, with the queue policy `pooled`.
    template <class Set>
        requires requires(const Set& set) {
            { set.handle() } -> std::same_as<detail::thread_set_handle>;
        }
    device(Backend backend, const Set& threads, options requested = {}, Kernel kernel = {})
        : device{shared(std::move(backend)), threads, std::move(requested), std::move(kernel)} {}
    template <class Set>
        requires requires(const Set& set) {
            { set.handle() } -> std::same_as<detail::thread_set_handle>;
        }
    device(std::shared_ptr<Backend> backend, const Set& threads, options requested = {},
           Kernel kernel = {})
        : device{threads.handle(), std::move(backend), std::move(requested), std::move(kernel)} {
        static_assert(traits::on_thread_set,
                      "ublk: a device on a thread set has the queue policy ublk::pooled");
    }

    device(const device&) = delete;
    device& operator=(const device&) = delete;

    /// Stops the device as `stop` does, also one with recovery, and drops its errors. In a child
    /// that was forked since the start it does nothing: the device is the parent's.
    ~device() = default;

    /// Adds, configures and starts the device (ADD_DEV, SET_PARAMS, START_DEV). When this returns,
    /// /dev/ublkbN is usable.
    ///
    /// Throws: `error`, and leaves nothing behind: EINVAL for options and backends that cannot
    /// work, EALREADY where it is started already, ETIMEDOUT where a step took longer than
    /// `options::command_deadline`, and what the kernel answers.
    void start() { core_.start(); }

    /// Serves a device that is there already and whose server is gone: it was killed, it crashed,
    /// or it gave the device up. The device was added with `options::recovery`; its disk keeps its
    /// node, its users and their requests. Queues, depth, sizes and flags are the device's: what
    /// `options` say of those is not looked at. When this returns, requests are served again.
    ///
    /// Waits until the driver lets go of the old server, `options::recovery_deadline` at most.
    ///
    /// Throws: `error`. Nothing has changed yet where the device is not to be recovered: ENODEV
    /// (there is none, or it was stopped), EBUSY (live: the text names the process), EOPNOTSUPP
    /// (added without recovery), EPERM (added by another library), EINVAL (this backend or these
    /// policies do not fit what clients of the disk have seen). Where a later step fails the device
    /// waits for a next server as before.
    /// Kernel: before 6.16 a device whose recovery failed or died half-way cannot be recovered any
    /// more; the driver may crash when it is tried. Delete it.
    void recover(std::uint32_t id) { core_.recover(id); }

    /// Removes the disk and the device: writes dirty pages back through the backend, lets requests
    /// in flight finish, ends the threads. Does nothing on a device that is not started. Requests
    /// that are left after `options::stop_deadline` fail with EIO. Where a backend never returns,
    /// its thread is left behind, and the thread that called stop cannot end before the backend
    /// returns.
    ///
    /// Throws: `error` where something did not end within its deadline; the device is gone all the
    /// same, or will be when the kernel is done.
    /// Kernel: a process that gets SIGKILL during a stop while it owns a request does not die
    /// (6.12, 7.3): its exit waits for STOP_DEV, which waits for the request.
    void stop() { core_.stop(); }

    /// Waits until another thread stops the device, it ends by itself, or `token` is triggered;
    /// stops it in the last two cases. A disk with `options::recovery` that ends by itself is not
    /// stopped. Where a queue thread failed it is recovered here and now, once after each start,
    /// and the event `recovered` tells why; the second time it is left to its next server, and the
    /// failure is thrown. Where it was quiesced (`control::quiesce`) it is left to that one.
    ///
    /// Throws: `error` where the queue threads failed, and as `stop` does.
    void wait(const std::stop_token& token = {}) { core_.wait(token); }

    /// "/dev/ublkbN"; empty before the first start.
    [[nodiscard]] std::string path() const { return core_.node("/dev/ublkb"); }

    /// "/dev/ublkcN"; empty before the first start.
    [[nodiscard]] std::string char_path() const { return core_.node("/dev/ublkc"); }

    /// N of /dev/ublkbN since the last start that succeeded; `no_device_id` before the first.
    [[nodiscard]] std::uint32_t id() const { return core_.info().id; }

    /// What the kernel granted at the last start that succeeded; empty before the first.
    [[nodiscard]] device_info info() const { return core_.info(); }

    /// What the device does now. It may change before the caller looks at it.
    [[nodiscard]] device_state state() const { return core_.state(); }

    /// The last 64 events, oldest first, with or without `options::on_event`. While that callable
    /// blocks, no more are added. `thread_lost` may come a moment after `state()` is `failed`.
    [[nodiscard]] std::vector<event> events() const { return core_.events(); }

    /// What the measuring policy has counted since the last start that succeeded, also after the
    /// stop; empty before the first. No request waits for it.
    template <class Measuring = typename traits::measuring>
    [[nodiscard]] auto stats() const {
        static_assert(!std::is_same_v<Measuring, no_stats>,
                      "ublk: this device counts nothing: take ublk::with<ublk::per_cpu, "
                      "ublk::stats> as its queue policy, or another one in place of per_cpu");
        return Measuring::read(core_.counted());
    }

    /// The backend. The queue threads use it at the same time.
    [[nodiscard]] Backend& backend() noexcept { return *backend_; }
    [[nodiscard]] const Backend& backend() const noexcept { return *backend_; }

private:
    device(detail::thread_set_handle set, std::shared_ptr<Backend> backend, options requested,
           Kernel kernel)
        : backend_{std::move(backend)},
          core_{detail::device_ops_of<Backend, QueuePolicy, BatchPolicy, Kernel>(backend_),
                std::move(set), std::move(requested), std::move(kernel)} {
        UBLK_ASSERT(backend_ != nullptr, "a device has a backend");
    }

    [[nodiscard]] static std::shared_ptr<Backend> shared(Backend&& backend) {
        if constexpr (std::is_move_constructible_v<Backend>) {
            return std::make_shared<Backend>(std::move(backend));
        } else {
            static_assert(std::is_move_constructible_v<Backend>,
                          "ublk: this backend cannot be moved: make it in place, "
                          "device<B> disk{std::in_place, ublk::options{}, arguments...}, or hand "
                          "over a std::shared_ptr<B>");
            return nullptr;
        }
    }

    std::shared_ptr<Backend> backend_;
    detail::device_core<Kernel> core_;
};

}  // namespace ublk::inline v0

// Compiled apart, by <ublk/separate_compilation.hpp>, or here.
#ifdef UBLK_SEPARATE_COMPILATION
extern template class ublk::detail::device_core<ublk::detail::linux_kernel>;
#else
#include <ublk/device/device_core_impl.hpp>
#endif
