// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/kernel/operation.hpp>

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
[[nodiscard]] inline int perform(const submission& asked) noexcept {
    const auto answer = [](ssize_t said) { return said < 0 ? -errno : static_cast<int>(said); };
    void* const memory = reinterpret_cast<void*>(asked.address);
    const auto* const vector = reinterpret_cast<const iovec*>(asked.address);
    const auto pieces = static_cast<int>(asked.length);
    const auto place = static_cast<off_t>(asked.offset);
    const auto flags = static_cast<int>(asked.op_flags);
    const iovec one{memory, asked.length};
    switch (asked.code) {
    case opcode::nop:
        return 0;
    case opcode::read:
    case opcode::read_fixed:
        return answer(::preadv2(asked.file, &one, 1, place, flags));
    case opcode::write:
    case opcode::write_fixed:
        return answer(::pwritev2(asked.file, &one, 1, place, flags));
    case opcode::readv:
        return answer(::preadv2(asked.file, vector, pieces, place, flags));
    case opcode::writev:
        return answer(::pwritev2(asked.file, vector, pieces, place, flags));
    case opcode::fsync:
        return answer((asked.op_flags & 1) != 0 ? ::fdatasync(asked.file) : ::fsync(asked.file));
    case opcode::fallocate:
        return answer(::fallocate(asked.file, pieces, place, static_cast<off_t>(asked.address)));
    case opcode::send:
        return answer(::send(asked.file, memory, asked.length, flags | MSG_NOSIGNAL));
    case opcode::recv:
        return answer(::recv(asked.file, memory, asked.length, flags));
    case opcode::poll_add: {
        pollfd waiting{asked.file, static_cast<short>(asked.op_flags), 0};
        const int ready = ::poll(&waiting, 1, 0);
        return ready < 0 ? -errno : waiting.revents;
    }
    case opcode::timeout:
        break;
    }
    return -EINVAL;
}

}  // namespace ublk::inline v0::sim
