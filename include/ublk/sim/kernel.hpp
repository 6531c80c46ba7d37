// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/device/device_core_impl.hpp>
#include <ublk/kernel/kernel.hpp>
#include <ublk/kernel/setup_refused.hpp>
#include <ublk/sim/kernel_handles.hpp>
#include <ublk/sim/seam.hpp>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstddef>
#include <optional>
#include <utility>

namespace ublk::inline v0::sim {

// The server's loop flattens whatever it calls; out of line this costs a compiler minutes less.
class kernel::port {
public:
    /// Throws: `error`, as the real one does.
    port(const channel& device, const wakeup& wakeup, const port_needs& needs)
        : in_{device.in()}, as_{device.as()}, device_{device.device()}, wakeup_{*wakeup.state_},
          ring_{in_.on(), as_, room_for_events(in_, entries(needs))}, room_{std::bit_ceil(
                                                                          entries(needs))} {
        ring_.operations_declared = needs.operations / std::max(1u, needs.tags);
        if (int code = 0; !in_.call(as_, "io_uring_setup", code)) {
            fail(code, "io_uring_setup", std::nullopt);
        }
        in_.on().tasks.running().killed = &as_.dead;
        held_.emplace(in_, as_, device_);
        if (needs.reserved_buffers != 0 || !needs.tag_buffers.empty()) {
            demand(register_buffers(needs));
        }
        if (in_.on().is.book != nullptr) {
            ring_.whose = [this](const std::byte* place) { return device_->request_at(place); };
        }
        if (needs.wakeup_event != nullptr) {
            ring_.wakeup_event = static_cast<const wakeup_event*>(needs.wakeup_event)->state_.get();
        }
        poll_waker();  // which a wake that came before ends at once
    }
    port(const port&) = delete;
    port& operator=(const port&) = delete;
    virtual ~port() {
        if (wakeup_.polling == &ring_) {
            wakeup_.polling = nullptr;
        }
        if (!ring_.flights.empty()) {
            in_.on().violation("a ring is closed upon operations in flight, whose memory goes");
            operations::drop(ring_);
        }
        if (!as_.dead) {
            in_.ublk_drv().life.close_ring(ring_);
        }
    }

    [[gnu::noinline]] void fetch(queue_id queue, tag t, buffer_address buffer,
                                 user_data ud) noexcept {
        put({.command = {uapi::io::fetch_req, queue, t, 0, buffer.memory, buffer.registration,
                         ud}});
    }
    [[gnu::noinline]] void commit(queue_id queue, tag t, int result, buffer_address buffer,
                                  user_data ud) noexcept {
        put({.command = {uapi::io::commit_and_fetch_req, queue, t, result, buffer.memory,
                         buffer.registration, ud}});
    }
    [[gnu::noinline]] void get_data(queue_id queue, tag t, std::uint64_t memory,
                                    user_data ud) noexcept {
        put({.command = {uapi::io::need_get_data, queue, t, 0, memory, 0, ud}});
    }
    [[gnu::noinline]] void register_buffer(queue_id queue, tag t, std::uint16_t index) noexcept {
        put({.command = {uapi::io::register_io_buf, queue, t, 0, index, 0, user_data::nobody()}});
    }
    [[gnu::noinline]] void unregister_buffer(queue_id queue, tag t, std::uint16_t index) noexcept {
        put({.command = {uapi::io::unregister_io_buf, queue, t, 0, index, 0, user_data::nobody()}});
    }

    [[gnu::noinline]] void start(const operation& sqe) noexcept {
        put({queued_entry::kind::operation, {.ud = user_data::of(sqe)}, sqe.submitted});
    }
    [[gnu::noinline]] void cancel_operations() noexcept {
        put({.type = queued_entry::kind::cancel, .command = {.ud = user_data::nobody()}});
    }
    [[gnu::noinline]] void listen() noexcept {
        wakeup_.readable = false;
        poll_waker();
    }

    [[gnu::noinline]] int flush() noexcept { return enter(false, false); }
    [[gnu::noinline]] int wait() noexcept { return enter(true, true, 1); }
    [[gnu::noinline]] int flush_and_collect() noexcept { return enter(true, false); }
    [[gnu::noinline]] int poll() noexcept { return enter(true, false); }

    [[nodiscard]] bool has_events() const noexcept { return as_.dead || !ring_.ready.empty(); }
    [[nodiscard]] deadline now() const noexcept { return in_.on().tasks.now(); }

    /// A look takes time: more and more in vain, so that a world without events moves on.
    [[gnu::noinline]] bool ready() noexcept {
        constexpr unsigned patience = 1'000'000, doublings = 12;
        if (has_events() || ring_.has_work() || !ring_.queued.empty()) {
            looks_in_vain_ = 0;
            return true;
        }
        if (ring_.wakeup_event != nullptr) {
            return false;  // which will tell
        }
        UBLK_ASSERT(++looks_in_vain_ < patience, "a simulated thread does not spin for ever");
        (void)in_.on().tasks.block(
            ring_.sleeping, "an event of its ring, which it looks for",
            now() + std::chrono::microseconds{1u << std::min(looks_in_vain_ / 8, doublings)});
        return false;
    }

    template <class Consume>
    void drain(Consume&& consume) noexcept {
        std::size_t seen = 0;
        completion_event event{user_data{0}, 0};
        while (next(seen, event)) {
            consume(event.ud, event.result);
        }
        advance(seen);
    }

    /// IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN.
    [[nodiscard]] unsigned ring_flags() const noexcept { return 0x3000; }

protected:
    /// As many as the real port asks of io_uring.
    [[nodiscard]] static unsigned entries(const port_needs& needs) noexcept {
        return needs.tags * (needs.reserved_buffers != 0 ? 3 : 1) + needs.operations + 1;
    }

    [[nodiscard]] static std::size_t room_for_events(world& in, unsigned entries) {
        const unsigned chosen = in.on().is.completions;
        return chosen != 0 ? chosen : std::bit_ceil(2 * entries);
    }

    void poll_waker() noexcept {
        put({.type = queued_entry::kind::listen, .command = {.ud = user_data::wake()}});
    }

    [[nodiscard]] int register_buffers(const port_needs& needs) {
        std::uint64_t pinned = 0;
        int code = 0;
        if (!in_.call(as_, "io_uring_register", code)) {
            return code;
        }
        code = ring_.buffers.reserve(needs.reserved_buffers + needs.tag_buffers.size());
        for (std::size_t i = 0; code == 0 && i < needs.tag_buffers.size(); ++i) {
            pinned += needs.tag_buffers[i].iov_len;
            const bool ours = needs.tag_buffers[i].iov_base != nullptr;  // or another thread's
            code = !ours ? 0
                   : pinned > in_.on().is.lockable_bytes
                       ? -ENOMEM
                       : ring_.buffers.put(
                             i, std::make_shared<registered_pages>(needs.tag_buffers[i]));
        }
        return code;
    }

    static void demand(int code) {
        if (code < 0) {
            using enum setup_refused::kind;
            throw setup_refused{path, code, "registering buffers with io_uring", {}, "", ""};
        }
    }

    void put(const queued_entry& entry) noexcept {
        while (ring_.queued.size() >= room_ && !as_.dead) {
            (void)enter(false, false);
        }
        ring_.queued.push_back(entry);
    }

    [[gnu::noinline]] bool next(std::size_t& seen, completion_event& event) noexcept {
        if (as_.dead || seen == ring_.ready.size()) {
            return false;
        }
        event = ring_.ready[seen++];
        return true;
    }

    [[gnu::noinline]] void advance(std::size_t seen) noexcept {
        const auto n = static_cast<std::ptrdiff_t>(std::min(seen, ring_.ready.size()));
        ring_.ready.erase(ring_.ready.begin(), ring_.ready.begin() + n);
    }

    /// io_uring_enter.
    int enter(bool events, bool wait, std::size_t enough = 1) noexcept {
        int code = 0;
        if (!in_.call(as_, "io_uring_enter", code)) {
            return code;
        }
        machine& on = in_.on();
        if (ring_.issuer != &on.tasks.running()) {
            on.violation("a ring is used by a thread that did not make it");
            return -EEXIST;
        }
        if (on.dice.chance(on.is.often.try_again)) {
            return -EAGAIN;
        }
        if (on.dice.chance(on.is.often.reap_first)) {
            return -EBUSY;
        }
        const std::size_t submitted = submit();
        if (!ring_.queued.empty()) {
            return 0;  // a short submission waits for nothing
        }
        if (events) {
            run_work();
        }
        const deadline until = on.tasks.now() + std::chrono::milliseconds{20};
        while (wait && ring_.ready.size() < std::min(enough, ring_.capacity) && !as_.dead) {
            if (on.dice.chance(on.is.often.interrupted)) {
                return submitted != 0 ? 0 : -EINTR;
            }
            if (on.dice.chance(on.is.often.idle_return)) {
                return 0;
            }
            const auto limit = enough == 1 ? deadline::max() : until;
            if (on.tasks.block(ring_.sleeping, "an event of its ring", limit) == wake_up::late) {
                break;
            }
            run_work();
        }
        return as_.dead ? -EOWNERDEAD : 0;
    }

    /// How many were taken.
    std::size_t submit() {
        machine& on = in_.on();
        std::size_t some = ring_.queued.size();
        if (some > 1 && on.dice.chance(on.is.often.short_submit)) {
            some = 1 + on.dice.below(some - 1);
        }
        for (std::size_t i = 0; i < some && !as_.dead; ++i) {
            const queued_entry each = ring_.queued[i];
            if (const int answer = take(each); answer != 0) {
                ring_.post(each.command.ud, answer);
            }
        }
        ring_.queued.erase(ring_.queued.begin(),
                           ring_.queued.begin() + static_cast<std::ptrdiff_t>(some));
        return some;
    }

    /// 0, or what answers it at once.
    virtual int take(const queued_entry& each) {
        switch (each.type) {
        case queued_entry::kind::batch:
        case queued_entry::kind::fetch_batches:
            return -EINVAL;
        case queued_entry::kind::command:
            break;
        case queued_entry::kind::listen:
            wakeup_.poll(ring_);
            return 0;
        case queued_entry::kind::operation:
            return operations{ring_}.start(each, device_->owned_through(ring_));
        case queued_entry::kind::cancel:
            operations{ring_}.cancel_all();
            return 0;
        }
        return device_->carry_out(ring_, each.command);
    }

    /// Task work: what the kernel had deferred to this thread.
    void run_work() {
        while (!ring_.work.empty() && !as_.dead) {
            for (const ring::task_work& each : std::exchange(ring_.work, {})) {
                if (each.rq != nullptr) {
                    device_->dispatch(ring_, *each.rq);
                } else {
                    ring_.post(each.event.ud, each.event.result);
                }
            }
        }
        ring_.catch_up();
    }

    world& in_;
    process& as_;
    device_ptr device_;
    wakeup::state& wakeup_;
    ring ring_;
    std::size_t room_;
    unsigned looks_in_vain_ = 0;
    std::optional<file_reference> held_;  ///< /dev/ublkcN as the ring's fixed file
};

inline kernel world::boot() {
    processes_.push_back(process{.pid = 1000 + static_cast<int>(processes_.size())});
    return kernel{*this, processes_.back()};
}

static_assert(ublk::detail::kernel<kernel>);

}  // namespace ublk::inline v0::sim
