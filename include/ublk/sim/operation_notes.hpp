// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/sim/journal.hpp>
#include <ublk/sim/ring.hpp>
#include <ublk/sim/seam.hpp>

#include <fcntl.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace ublk::inline v0::sim {

namespace detail {

[[nodiscard]] inline bool fixed(opcode code) noexcept {
    return code == opcode::read_fixed || code == opcode::write_fixed;
}
[[nodiscard]] inline bool vectored(opcode code) noexcept {
    return code == opcode::readv || code == opcode::writev;
}
[[nodiscard]] inline bool fills(opcode code) noexcept {
    return code == opcode::read || code == opcode::readv || code == opcode::read_fixed ||
           code == opcode::recv;
}
[[nodiscard]] inline bool transfers(opcode code) noexcept {
    return fills(code) || vectored(code) || code == opcode::write || code == opcode::write_fixed;
}
[[nodiscard]] inline bool waits(opcode code) noexcept {
    return code == opcode::timeout || code == opcode::poll_add || code == opcode::recv ||
           code == opcode::send;
}

}  // namespace detail

/// One more operation, of a server that has so many requests. Nobody can see of which of them it
/// is, but one has at least as many as there are to each.
inline void count_operation(ring& of, std::size_t requests) {
    const std::size_t all = of.flights.size() + 1;
    const std::size_t each = requests == 0 ? all : (all + requests - 1) / requests;
    machine::operation_counts& counts = of.on.operations;
    counts.declared = std::max(counts.declared, of.operations_declared);
    counts.seen = std::max(counts.seen, each);
}

/// Writes down that an operation begins.
inline void note_begin(const ring& of, flight& f) {
    journal* const book = of.on.is.book;
    if (book == nullptr) {
        return;
    }
    f.number = book->next_number();
    journal::entry entry{.type = journal::kind::began, .number = f.number};
    entry.sqe = f.sqe;
    entry.file = journal::id_of(f.sqe.file);
    constexpr std::uint32_t dsync = 2 | 4;  // RWF_DSYNC, RWF_SYNC
    const int mode = ::fcntl(f.sqe.file, F_GETFL);
    entry.durable = detail::transfers(f.sqe.code) &&
                    ((f.sqe.op_flags & dsync) != 0 || (mode >= 0 && (mode & O_DSYNC) != 0));
    if (f.pages != nullptr && f.pages->request() != nullptr) {
        entry.request = f.pages->request()->number;
    } else if (detail::transfers(f.sqe.code)) {
        const auto* const place = f.pieces.empty()
                                      ? reinterpret_cast<const std::byte*>(f.sqe.address)
                                      : static_cast<const std::byte*>(f.pieces[0].iov_base);
        entry.request = of.whose ? of.whose(place) : 0;
    }
    book->add(entry);
}

/// And that it has ended.
inline void note_end(const flight& f, int answer) {
    journal* const book = f.to->on.is.book;
    if (book != nullptr) {
        journal::entry entry{.type = journal::kind::ended, .number = f.number, .result = answer};
        entry.sqe = f.sqe;
        book->add(entry);
    }
}

}  // namespace ublk::inline v0::sim
