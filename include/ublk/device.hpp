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
    static_assert(!std::is_reference_v<Backend>,
                  "ublk: a device keeps its backend: hand over a std::shared_ptr<Backend> of what "
                  "others refer to as well");
    static_assert(check_backend<Backend>());
    using traits = queue_policy_traits<QueuePolicy>;

public:
    /// Nothing happens yet.
    explicit device(Backend backend, options requested = {}, Kernel kernel = {})
        : device{shared(std::move(backend)), std::move(requested), std::move(kernel)} {}

    /// Makes the backend in place, of `arguments`, for one that cannot be moved.
    template <class... Arguments>
    explicit device(std::in_place_t, options requested, Arguments&&... arguments)
        : device{std::make_shared<Backend>(std::forward<Arguments>(arguments)...),
                 std::move(requested)} {}

    /// The same with a backend that others refer to as well, or that cannot be moved.
    explicit device(std::shared_ptr<Backend> backend, options requested = {}, Kernel kernel = {})
        : device{thread_set_handle{}, std::move(backend), std::move(requested), std::move(kernel)} {
        static_assert(!traits::on_thread_set,
                      "ublk: a device with the queue policy pooled is made with a thread set: "
                      "ublk::thread_set threads; device{backend, threads}");
    }

    /// The same on the threads of a `thread_set`, with the queue policy `pooled`.
    template <class Set>
        requires requires(const Set& set) {
            { set.handle() } -> std::same_as<thread_set_handle>;
        }
    device(Backend backend, const Set& threads, options requested = {}, Kernel kernel = {})
        : device{shared(std::move(backend)), threads, std::move(requested), std::move(kernel)} {}
    template <class Set>
        requires requires(const Set& set) {
            { set.handle() } -> std::same_as<thread_set_handle>;
        }
    device(std::shared_ptr<Backend> backend, const Set& threads, options requested = {},
           Kernel kernel = {})
        : device{threads.handle(), std::move(backend), std::move(requested), std::move(kernel)} {
        static_assert(traits::on_thread_set,
                      "ublk: a device on a thread set has the queue policy ublk::pooled");
    }

    device(const device&) = delete;
    device& operator=(const device&) = delete;

    /// Stops the device as `stop` does; what goes wrong then is not told.
    ///
    /// In a child that was forked since the start it lets go at once: the device is its parent's.
    ~device() = default;

    /// Adds, configures and starts the device; when this returns /dev/ublkbN is usable. Throws
    /// `error` and leaves nothing behind where that fails, each step within
    /// `options::command_deadline`.
    void start() { core_.start(); }

    /// Removes the disk and the device: writes dirty pages back through the backend, lets requests
    /// in flight finish, ends the threads. Does nothing on a device that is not started. Throws
    /// `error` where something did not end within its deadline; after `options::stop_deadline` the
    /// requests that are left fail with EIO. With a backend that never returns its thread is left
    /// behind, and the thread that called stop cannot end before the backend returns.
    ///
    /// A process that gets SIGKILL meanwhile, while it owns a request, does not die: the kernel
    /// (6.12, 7.3) waits in its exit for STOP_DEV, which waits for the request.
    void stop() { core_.stop(); }

    /// Waits until the device is stopped by another thread, ends by itself, or `token` is
    /// triggered; stops it in the last two cases. Throws `error` where the queue threads failed,
    /// and as `stop` does.
    void wait(const std::stop_token& token = {}) { core_.wait(token); }

    /// "/dev/ublkbN"; empty before the first start.
    [[nodiscard]] std::string path() const { return core_.node("/dev/ublkb"); }

    /// "/dev/ublkcN"; empty before the first start.
    [[nodiscard]] std::string char_path() const { return core_.node("/dev/ublkc"); }

    /// N, as granted by the last start that succeeded; `no_device_id` before the first.
    [[nodiscard]] std::uint32_t id() const { return core_.info().id; }

    /// What the last start was granted.
    [[nodiscard]] device_info info() const { return core_.info(); }

    [[nodiscard]] device_state state() const { return core_.state(); }

    /// The last 64 events that were told, oldest first; there need be no `options::on_event`. While
    /// that blocks, no more are told. A thread that is lost may be there a moment after `state()`
    /// is `failed`.
    [[nodiscard]] std::vector<event> events() const { return core_.events(); }

    /// What is counted since the last start that succeeded, which stays after the stop; empty
    /// before the first. No request waits for it.
    template <class Measuring = typename traits::measuring>
    [[nodiscard]] auto stats() const {
        static_assert(!std::is_same_v<Measuring, no_stats>,
                      "ublk: this device counts nothing: take ublk::with<ublk::per_cpu, "
                      "ublk::stats> as its queue policy, or another one in place of per_cpu");
        return Measuring::read(core_.counted());
    }

    /// The queue threads use it at the same time.
    [[nodiscard]] Backend& backend() noexcept { return *backend_; }
    [[nodiscard]] const Backend& backend() const noexcept { return *backend_; }

private:
    device(thread_set_handle set, std::shared_ptr<Backend> backend, options requested,
           Kernel kernel)
        : backend_{std::move(backend)},
          core_{device_ops_of<Backend, QueuePolicy, BatchPolicy, Kernel>(backend_), std::move(set),
                std::move(requested), std::move(kernel)} {
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
    device_core<Kernel> core_;
};

}  // namespace ublk::inline v0

// Compiled apart, by <ublk/separate_compilation.hpp>, or here.
#ifdef UBLK_SEPARATE_COMPILATION
extern template class ublk::device_core<ublk::linux_kernel>;
#else
#include <ublk/device/device_core_impl.hpp>
#endif
