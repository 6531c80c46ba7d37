// SPDX-License-Identifier: MIT
#pragma once

#include <range/v3/view/facade.hpp>

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>

/// A request cut at chunk boundaries, for a disk that goes round its members chunk by chunk (RAID
/// 0): chunk n is on member n % members, in row n / members.
///
/// The only header that includes range-v3, which costs a second of compile time: ublk.hpp and what
/// it includes stay free of it.
namespace ublk::inline v0 {

/// A piece of a request that is contiguous both in the request and on one member.
struct segment {
    std::size_t member = 0;    ///< which one
    std::uint64_t offset = 0;  ///< byte on the member where it begins
    std::uint64_t from = 0;    ///< byte in the request where it begins
    std::uint64_t bytes = 0;

    friend constexpr bool operator==(const segment&, const segment&) noexcept = default;
};

/// What a request covers of one member: contiguous there, scattered over the request.
struct share {
    std::size_t member = 0;    ///< which one
    std::uint64_t offset = 0;  ///< byte on the member where it begins
    std::uint64_t bytes = 0;

    friend constexpr bool operator==(const share&, const share&) noexcept = default;
};

namespace detail {

/// A view of what Self computes from an index. `size()` and `[]` are Self's own, since those of
/// range-v3 go through its iterators, and these are no constant expressions.
template <class Self>
class computed : public ranges::view_facade<Self, ranges::finite> {
    friend ranges::range_access;

    // Holds the whole view, so that an iterator outlives it.
    struct cursor {
        Self view{};
        std::ptrdiff_t at = 0;

        [[nodiscard]] auto read() const noexcept { return view[static_cast<std::uint64_t>(at)]; }
        [[nodiscard]] bool equal(const cursor& other) const noexcept { return at == other.at; }
        void next() noexcept { ++at; }
        void prev() noexcept { --at; }
        void advance(std::ptrdiff_t by) noexcept { at += by; }
        [[nodiscard]] std::ptrdiff_t distance_to(const cursor& other) const noexcept {
            return other.at - at;
        }
    };

    [[nodiscard]] const Self& self() const noexcept { return static_cast<const Self&>(*this); }
    [[nodiscard]] cursor begin_cursor() const noexcept { return {self(), 0}; }
    [[nodiscard]] cursor end_cursor() const noexcept {
        return {self(), static_cast<std::ptrdiff_t>(self().size())};
    }
};

/// The chunks that a request touches.
class touched_chunks {
public:
    constexpr touched_chunks() noexcept = default;
    constexpr touched_chunks(std::uint64_t offset, std::uint64_t length, std::uint64_t chunk,
                             std::size_t members) noexcept
        : offset_{offset}, end_{offset + length}, members_{members}, shift_{static_cast<unsigned>(
                                                                         std::countr_zero(chunk))},
          first_{offset >> shift_}, count_{length == 0 ? 0 : ((end_ - 1) >> shift_) - first_ + 1} {}

    [[nodiscard]] constexpr std::uint64_t first() const noexcept { return first_; }
    [[nodiscard]] constexpr std::uint64_t count() const noexcept { return count_; }
    [[nodiscard]] constexpr std::size_t members() const noexcept { return members_; }

    /// The request's first byte in that chunk, and one past its last, as bytes of the disk.
    [[nodiscard]] constexpr std::uint64_t begin_in(std::uint64_t chunk) const noexcept {
        return std::max(offset_, chunk << shift_);
    }
    [[nodiscard]] constexpr std::uint64_t end_in(std::uint64_t chunk) const noexcept {
        return std::min(end_, (chunk + 1) << shift_);
    }

    /// Where a byte of the disk that lies in, or right behind, that chunk is on the chunk's member.
    [[nodiscard]] constexpr std::uint64_t place_of(std::uint64_t chunk,
                                                   std::uint64_t byte) const noexcept {
        return (chunk / members_ << shift_) + (byte - (chunk << shift_));
    }
    [[nodiscard]] constexpr std::uint64_t in_request(std::uint64_t byte) const noexcept {
        return byte - offset_;
    }

private:
    std::uint64_t offset_ = 0;
    std::uint64_t end_ = 0;
    std::size_t members_ = 1;
    unsigned shift_ = 0;
    std::uint64_t first_ = 0;
    std::uint64_t count_ = 0;
};

}  // namespace detail

/// The segments of a request, in its order: a view of random access that computes each when it is
/// looked at, owns nothing and may be copied freely.
class segments : public detail::computed<segments> {
public:
    constexpr segments() noexcept = default;

    /// Of `length` bytes from `offset` on. Requires: `chunk` is a power of two, there is a member,
    /// and the end of the last chunk is below 2^64.
    constexpr segments(std::uint64_t offset, std::uint64_t length, std::uint64_t chunk,
                       std::size_t members) noexcept
        : chunks_{offset, length, chunk, members} {}

    [[nodiscard]] constexpr std::uint64_t size() const noexcept { return chunks_.count(); }

    /// Range: `nth` below `size()`.
    [[nodiscard]] constexpr segment operator[](std::uint64_t nth) const noexcept {
        const std::uint64_t chunk = chunks_.first() + nth;
        const std::uint64_t begin = chunks_.begin_in(chunk);
        return {static_cast<std::size_t>(chunk % chunks_.members()), chunks_.place_of(chunk, begin),
                chunks_.in_request(begin), chunks_.end_in(chunk) - begin};
    }

private:
    detail::touched_chunks chunks_;
};

/// The shares of the members that a request touches, for one that carries no bytes (discard,
/// write-zeroes): a view as above, which begins with the member of the request's first byte.
class shares : public detail::computed<shares> {
public:
    constexpr shares() noexcept = default;

    /// Parameters and requirements as for `segments`.
    constexpr shares(std::uint64_t offset, std::uint64_t length, std::uint64_t chunk,
                     std::size_t members) noexcept
        : chunks_{offset, length, chunk, members} {}

    [[nodiscard]] constexpr std::uint64_t size() const noexcept {
        return std::min<std::uint64_t>(chunks_.count(), chunks_.members());
    }

    /// Range: `nth` below `size()`.
    [[nodiscard]] constexpr share operator[](std::uint64_t nth) const noexcept {
        const std::uint64_t rounds = (chunks_.count() - 1 - nth) / chunks_.members();
        const std::uint64_t head = chunks_.first() + nth;
        const std::uint64_t tail = head + rounds * chunks_.members();
        const std::uint64_t begin = chunks_.place_of(head, chunks_.begin_in(head));
        return {static_cast<std::size_t>(head % chunks_.members()), begin,
                chunks_.place_of(tail, chunks_.end_in(tail)) - begin};
    }

private:
    detail::touched_chunks chunks_;
};

}  // namespace ublk::inline v0
