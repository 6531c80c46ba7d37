// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/kernel/operation.hpp>
#include <ublk/sim/seam.hpp>

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>

namespace ublk::inline v0::sim {

/// Does what io_uring would do for an operation on a real file, at once: files of a simulated world
/// are real ones. Answers as a completion does. Operations upon registered buffers come with the
/// address where these are in memory; a timeout is the caller's to keep.
[[nodiscard]] inline int perform(const submission& sqe) noexcept {
    const auto answer = [](ssize_t outcome) {
        return outcome < 0 ? -errno : static_cast<int>(outcome);
    };
    void* const memory = reinterpret_cast<void*>(sqe.address);
    const auto* const vector = reinterpret_cast<const iovec*>(sqe.address);
    const auto pieces = static_cast<int>(sqe.length);
    const auto place = static_cast<off_t>(sqe.offset);
    const auto flags = static_cast<int>(sqe.op_flags);
    const iovec one{memory, sqe.length};
    switch (sqe.code) {
    case opcode::nop:
        return 0;
    case opcode::read:
    case opcode::read_fixed:
        return answer(::preadv2(sqe.file, &one, 1, place, flags));
    case opcode::write:
    case opcode::write_fixed:
        return answer(::pwritev2(sqe.file, &one, 1, place, flags));
    case opcode::readv:
        return answer(::preadv2(sqe.file, vector, pieces, place, flags));
    case opcode::writev:
        return answer(::pwritev2(sqe.file, vector, pieces, place, flags));
    case opcode::fsync:
        return answer((sqe.op_flags & 1) != 0 ? ::fdatasync(sqe.file) : ::fsync(sqe.file));
    case opcode::fallocate:
        return answer(::fallocate(sqe.file, pieces, place, static_cast<off_t>(sqe.address)));
    case opcode::send:
        return answer(::send(sqe.file, memory, sqe.length, flags | MSG_NOSIGNAL));
    case opcode::recv:
        return answer(::recv(sqe.file, memory, sqe.length, flags));
    case opcode::poll_add: {
        pollfd waiting{sqe.file, static_cast<short>(sqe.op_flags), 0};
        const int ready = ::poll(&waiting, 1, 0);
        return ready < 0 ? -errno : waiting.revents;
    }
    case opcode::timeout:
        break;
    }
    return -EINVAL;
}

}  // namespace ublk::inline v0::sim
