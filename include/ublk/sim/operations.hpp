// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/sim/fiber.hpp>
#include <ublk/sim/operation_notes.hpp>
#include <ublk/sim/perform.hpp>
#include <ublk/sim/ring.hpp>
#include <ublk/sim/seam.hpp>

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

namespace ublk::inline v0::sim {

/// io_uring's side of backends' operations: takes each at its submission, carries it out some time
/// later, in whatever order, by real system calls on real files, and answers. Memory is touched
/// when it is carried out, not before.
class operations {
public:
    explicit operations(ring& of) noexcept : ring_{of}, on_{of.on} {}

    /// 0, or the answer of one that ends at once. `requests`: those that the server has through
    /// this ring.
    [[nodiscard]] int start(const queued_entry& entry, std::size_t requests) {
        const submission& sqe = entry.sqe;
        const user_data ud = entry.command.ud;
        count_operation(ring_, requests);
        const auto mine = std::make_shared<flight>(flight{.sqe = sqe, .ud = ud, .to = &ring_});
        if (const int code = prepare(*mine); code != 0) {
            return code;
        }
        note_begin(ring_, *mine);
        const bool can_wait = detail::waits(sqe.code);
        if (!can_wait && on_.dice.chance(4)) {  // done within io_uring_enter
            const int answer = carry_out(*mine);
            note_end(*mine, answer);
            ring_.post(ud, answer);
            return 0;
        }
        ring_.flights.push_back(mine);
        (void)on_.tasks.spawn("io_uring operation", [&on = on_, mine] {
            const int answer =
                detail::waits(mine->sqe.code) ? live_until_ready(on, *mine) : live(on, *mine);
            if (mine->to != nullptr) {
                note_end(*mine, answer);
                ring& home = *mine->to;
                std::erase(home.flights, mine);
                mine->pages.reset();
                home.give_work({nullptr, nullptr, {mine->ud, answer}});
            }
        });
        return 0;
    }

    /// Gives up what has not begun, and interrupts some of the rest.
    void cancel_all() {
        for (const flight_ptr& each : std::vector{ring_.flights}) {
            each->cancelled = true;
            on_.tasks.wake(each->nap);
        }
    }

    /// SIGKILL: some of what was under way still reaches its file, at this very moment; nothing
    /// does later.
    static void die(ring& of) {
        for (const flight_ptr& each : std::vector{of.flights}) {
            if (!detail::waits(each->sqe.code) && of.on.dice.chance(2)) {
                (void)carry_out(of.on, *each, {});
            }
        }
        drop(of);
    }

    /// Nobody hears of them any more, and they have no effect.
    static void drop(ring& of) {
        for (const flight_ptr& each : std::exchange(of.flights, {})) {
            each->to = nullptr;
            each->pages.reset();
            of.on.tasks.wake(each->nap);
        }
    }

private:
    /// What io_uring looks at when an operation is submitted (IORING_FEAT_SUBMIT_STABLE).
    [[nodiscard]] int prepare(flight& f) const {
        const submission& sqe = f.sqe;
        if (detail::vectored(sqe.code)) {
            const auto* const first = reinterpret_cast<const iovec*>(sqe.address);
            touch(first, sqe.length * sizeof(iovec));
            f.pieces.assign(first, first + sqe.length);
        } else if (sqe.code == opcode::send || sqe.code == opcode::recv) {
            f.on_stream = sqe.length != 0 && is_stream(sqe.file);
        } else if (sqe.code == opcode::timeout) {
            std::int64_t parts[2];
            touch(reinterpret_cast<const void*>(sqe.address), sizeof parts);
            std::memcpy(parts, reinterpret_cast<const void*>(sqe.address), sizeof parts);
            f.time = std::chrono::seconds{parts[0]} + std::chrono::nanoseconds{parts[1]};
            return parts[0] < 0 || parts[1] < 0 ? -EINVAL : 0;
        } else if (detail::fixed(sqe.code)) {
            f.pages = ring_.buffers.find(sqe.buffer);
            return f.pages == nullptr
                       ? -EFAULT
                       : f.pages->check(sqe.address, sqe.length, detail::fills(sqe.code));
        }
        return 0;
    }

    [[nodiscard]] static bool is_stream(int file) noexcept {
        int type = 0;
        socklen_t length = sizeof type;
        return ::getsockopt(file, SOL_SOCKET, SO_TYPE, &type, &length) == 0 && type == SOCK_STREAM;
    }

    // ---------------------------------------------------------------- their lives

    /// What a worker of the kernel's does.
    [[nodiscard]] static int live(machine& on, flight& f) {
        nap(on, f, on.some_time());
        if (f.to == nullptr || f.cancelled) {
            return -ECANCELED;
        }
        nap(on, f, on.some_time());
        if (f.to == nullptr) {
            return -ECANCELED;
        }
        if (f.cancelled && on.dice.chance(2)) {
            return -EINTR;  // it had begun, and a signal reached it
        }
        return carry_out(on, f, on.is.often);
    }

    /// Of what waits for something outside: until that is there, or for ever.
    [[nodiscard]] static int live_until_ready(machine& on, flight& f) {
        if (f.sqe.code == opcode::timeout) {
            nap(on, f, f.time);
            return f.cancelled ? -ECANCELED : -ETIME;
        }
        std::chrono::nanoseconds patience = on.some_time();
        while (f.to != nullptr && !f.cancelled) {
            if (const std::optional<int> answer = look(on, f)) {
                return *answer;
            }
            nap(on, f, patience);
            patience = std::clamp<std::chrono::nanoseconds>(
                2 * patience, std::chrono::microseconds{10}, std::chrono::seconds{1});
        }
        return f.moved != 0 ? static_cast<int>(f.moved) : -ECANCELED;
    }

    static void nap(machine& on, flight& f, std::chrono::nanoseconds time) {
        const deadline until = on.tasks.now() + time;
        if (f.to != nullptr && !f.cancelled) {
            (void)on.tasks.block(f.nap, "an operation's end", until);
        }
    }

    /// The answer of a poll, a send or a recv, if there is one yet.
    [[nodiscard]] static std::optional<int> look(machine& on, flight& f) {
        submission now = f.sqe;
        if (now.code == opcode::poll_add) {
            const int ready = perform(now);
            return ready == 0 ? std::nullopt : std::optional{ready};
        }
        const bool all = (now.op_flags & MSG_WAITALL) != 0;
        now.op_flags = (now.op_flags & ~std::uint32_t{MSG_WAITALL}) | MSG_DONTWAIT;
        while (true) {
            now.address = f.sqe.address + f.moved;
            now.length = f.sqe.length - f.moved;
            if (f.on_stream && on.dice.chance(on.is.often.short_transfer)) {
                now.length = 1 + static_cast<std::uint32_t>(on.dice.below(now.length));
            }
            touch(reinterpret_cast<const void*>(now.address), now.length);
            const int outcome = perform(now);
            on.tasks.wake(on.peers);
            if (outcome == -EAGAIN) {
                return std::nullopt;
            }
            if (outcome <= 0) {
                return f.moved != 0 ? static_cast<int>(f.moved) : outcome;
            }
            f.moved += static_cast<std::uint32_t>(outcome);
            if (!all || f.moved == f.sqe.length) {
                return static_cast<int>(f.moved);
            }
        }
    }

    // ---------------------------------------------------------------- their effect

    [[nodiscard]] int carry_out(flight& f) const { return carry_out(on_, f, on_.is.often); }

    [[nodiscard]] static int carry_out(machine& on, flight& f, const troubles& often) {
        submission now = f.sqe;
        const bool on_file = now.offset != ~std::uint64_t{0};
        if (on.dice.chance(often.operation_fails)) {
            return detail::fills(now.code) || on.dice.chance(2) ? -EIO : -ENOSPC;
        }
        if (detail::transfers(now.code) && on_file && on.dice.chance(often.operation_again)) {
            return on.dice.chance(2) ? -EINTR : -EAGAIN;
        }
        if (detail::transfers(now.code) && !on_file && !readable_or_writable(now)) {
            return -EAGAIN;
        }
        if (f.pages != nullptr) {
            now.address = reinterpret_cast<std::uintptr_t>(f.pages->at(now.address));
        }
        std::vector<iovec> pieces = f.pieces;
        if (detail::transfers(now.code) && on.dice.chance(often.short_transfer)) {
            shorten(on, now, pieces);
        }
        if (detail::vectored(now.code)) {
            now.address = reinterpret_cast<std::uintptr_t>(pieces.data());
            now.length = static_cast<std::uint32_t>(pieces.size());
            for (const iovec& each : pieces) {
                touch(each.iov_base, each.iov_len);
            }
        } else if (detail::transfers(now.code)) {
            touch(reinterpret_cast<const void*>(now.address), now.length);
        }
        return perform(now);
    }

    /// A pipe or a socket that is not ready would hold up the whole world.
    [[nodiscard]] static bool readable_or_writable(const submission& sqe) {
        pollfd waiting{sqe.file, static_cast<short>(detail::fills(sqe.code) ? POLLIN : POLLOUT), 0};
        return ::poll(&waiting, 1, 0) != 0;
    }

    static void shorten(machine& on, submission& now, std::vector<iovec>& pieces) {
        const bool direct = (::fcntl(now.file, F_GETFL) & O_DIRECT) != 0;
        const std::size_t unit = direct ? 4096 : on.is.transfer_unit;
        std::size_t all = now.length;
        if (detail::vectored(now.code)) {
            all = 0;
            for (const iovec& each : pieces) {
                all += each.iov_len;
            }
        }
        if (all / unit < 2) {
            return;
        }
        std::size_t some = unit * (1 + on.dice.below(all / unit - 1));
        if (!detail::vectored(now.code)) {
            now.length = static_cast<std::uint32_t>(some);
            return;
        }
        std::vector<iovec> first;
        for (const iovec& each : pieces) {
            const std::size_t part = std::min(each.iov_len, some);
            some -= part;
            if (part != 0) {
                first.push_back({each.iov_base, part});
            }
        }
        pieces = std::move(first);
    }

    ring& ring_;
    machine& on_;
};

}  // namespace ublk::inline v0::sim
