// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/error.hpp>
#include <ublk/kernel/kernel.hpp>
#include <ublk/kernel/operation.hpp>
#include <ublk/kernel/ring.hpp>
#include <ublk/payload.hpp>
#include <ublk/result.hpp>
#include <ublk/uapi.hpp>

#include <cerrno>
#include <cstddef>
#include <cstdint>

namespace ublk::inline v0 {

/// An io_uring of a user's thread, which moves bytes between files and the pages of clients. A
/// backend passes requests to such a thread by `io::offload`, so that a file that blocks holds up
/// no queue.
///
/// Thread: the one that constructs it.
/// Kernel: 6.17, see `client_pages`.
class page_ring {
public:
    /// Throws: `error` where io_uring refuses.
    //
    // Not a ring that defers its work to the next call: a transfer that went to a thread of the
    // kernel's may let go of the pages a moment after it has answered, and the driver completes no
    // request whose pages are held. That must not wait until there is something else to move.
    page_ring() : io_{detail::ring::kind::unattended, 4} {
        if (const int code = io_.reserve_buffers(1); code < 0) {
            fail(code, "making room for clients' pages in io_uring", std::nullopt);
        }
    }

    /// Reads from `file` into all of `out`. Blocks.
    ///
    /// Errors: ENODATA where the file ends before; those of preadv2(2).
    [[nodiscard]] result read(int file, client_pages out, std::uint64_t offset) noexcept {
        return move(detail::opcode::read_fixed, file, out, offset, 0);
    }

    /// Writes all of `in` to `file`. `flags` are those of pwritev2(2). Blocks.
    ///
    /// Errors: those of pwritev2(2).
    [[nodiscard]] result write(int file, client_pages in, std::uint64_t offset,
                               int flags = 0) noexcept {
        return move(detail::opcode::write_fixed, file, in, offset, flags);
    }

    /// IORING_SETUP_*, as the kernel granted.
    [[nodiscard]] unsigned flags() const noexcept { return io_.flags(); }

private:
    static constexpr std::uint16_t place = 0;

    // The registration is carried out while it is submitted, so what follows finds the pages.
    [[nodiscard]] result move(detail::opcode code, int file, client_pages pages,
                              std::uint64_t offset, int flags) noexcept {
        command(uapi::io::register_io_buf, pages);
        detail::operation moving;
        moving.submitted = {.code = code,
                            .file = file,
                            .offset = offset,
                            .address = pages.base(),
                            .length = static_cast<std::uint32_t>(pages.size()),
                            .op_flags = static_cast<std::uint32_t>(flags),
                            .buffer = place};
        moving.transfer_whole(static_cast<std::uint32_t>(pages.size()), 1);
        do {
            io_.start(moving);
        } while (!moving.ends_with(next_answer()));
        command(uapi::io::unregister_io_buf, pages);
        const int unregistered = next_answer();
        if (moving.answer < 0 || registered_ < 0 || unregistered < 0) {
            const int first = registered_ < 0     ? registered_
                              : moving.answer < 0 ? moving.answer
                                                  : unregistered;
            return result::failure(first);
        }
        const bool all = static_cast<std::size_t>(moving.answer) == pages.size();
        return all ? ok : result::failure(ENODATA);
    }

    void command(std::uint32_t op, const client_pages& pages) noexcept {
        io_.command(pages.file(), op,
                    detail::io_command(queue_id{pages.queue()}, tag{pages.tag()}, 0, place), op);
        registered_ = op == uapi::io::register_io_buf ? 0 : registered_;
    }

    // Of the operation, or of the unregistration; what became of the registration is kept.
    [[nodiscard]] int next_answer() noexcept {
        int answer = 0;
        bool found = false;
        while (!found) {
            const int code = io_.submit_and_wait();
            if (!detail::enters_again(code)) {
                return code;  // the ring itself is broken
            }
            io_.drain([&](std::uint64_t user, int outcome, std::uint32_t) {
                if (user == uapi::io::register_io_buf) {
                    registered_ = outcome;
                } else {
                    answer = outcome;
                    found = true;
                }
            });
        }
        return answer;
    }

    detail::ring io_;
    int registered_ = 0;
};

}  // namespace ublk::inline v0
