// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/backends/filter.hpp>

#include <boost/crc.hpp>

#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

/// Another disk, whose blocks are compared with the CRC of what was last written to them: a read of
/// something else fails with EIO. Blocks that were not written since the start are not compared,
/// nor are those of requests that overlap in flight, which have no order on any disk. Takes 24
/// bytes of memory a block.
///
/// Served by copies, since a client may write to its own pages while they are summed up.
template <class Disk>
class checksum : public ublk::backends::filter<checksum<Disk>, Disk, std::span<std::byte>> {
    using base = ublk::backends::filter<checksum, Disk, std::span<std::byte>>;

public:
    explicit checksum(Disk below)
        : base{std::move(below)}, blocks_(this->size() / this->logical_block_size()) {}

    template <class Op, class... P>
    ublk::task later(ublk::io& io, const ublk::request& r, P... bytes) {
        constexpr bool reads = std::is_same_v<Op, ublk::operations::read>;
        constexpr bool flushes = std::is_same_v<Op, ublk::operations::flush>;
        const std::uint64_t began = begin(r, !reads && !flushes);
        ublk::task below = this->template pass<Op>(io, r, bytes...);
        const ublk::result answer = co_await std::move(below);
        if constexpr (reads) {
            const bool right = !answer.ok() || matches(r, began, bytes...);
            co_return right ? answer : ublk::result{std::errc::io_error};
        } else if constexpr (!flushes) {
            end(r, answer.ok(), bytes...);
        }
        co_return answer;
    }

private:
    struct block {
        std::uint64_t changed = 0;  // number of the change that ended last
        std::uint32_t crc = 0;
        std::uint16_t changing = 0;  // changes in flight
        bool mixed = false;          // several of them at the same time
        bool known = false;
    };

    std::span<block> blocks(const ublk::request& r) noexcept {
        const std::uint64_t size = this->logical_block_size();
        return std::span{blocks_}.subspan(r.offset() / size, r.length() / size);
    }
    [[nodiscard]] std::uint32_t crc(std::span<const std::byte> bytes, std::size_t nth) const {
        boost::crc_optimal<32, 0x1EDC6F41, 0xFFFFFFFF, 0xFFFFFFFF, true, true> sum;  // CRC-32C
        sum.process_bytes(&bytes[nth * this->logical_block_size()], this->logical_block_size());
        return sum.checksum();
    }

    [[nodiscard]] std::uint64_t begin(const ublk::request& r, bool changes) {
        const std::lock_guard lock{*mutex_};
        if (changes) {
            for (block& each : blocks(r)) {
                each.mixed = each.changing++ != 0;
                each.known = false;
            }
        }
        return changes_;
    }

    /// `bytes` is what was written; none of a discard, which may leave anything.
    template <class... P>
    void end(const ublk::request& r, bool written, P... bytes) {
        const std::lock_guard lock{*mutex_};
        ++changes_;  // a read that has begun by now may have what was there before
        std::size_t nth = 0;
        for (block& each : blocks(r)) {
            each.changed = changes_;
            // Of changes at the same time nobody knows which came last.
            each.known = --each.changing == 0 && !each.mixed && written && sizeof...(P) != 0;
            ((each.crc = crc(bytes, nth)), ...);
            ++nth;
        }
    }

    [[nodiscard]] bool matches(const ublk::request& r, std::uint64_t began,
                               std::span<const std::byte> bytes) {
        const std::lock_guard lock{*mutex_};
        std::size_t nth = 0;
        for (const block& each : blocks(r)) {
            if (each.known && each.changed <= began && each.crc != crc(bytes, nth)) {
                return false;
            }
            ++nth;
        }
        return true;
    }

    std::vector<block> blocks_;
    std::uint64_t changes_ = 0;
    std::unique_ptr<std::mutex> mutex_ = std::make_unique<std::mutex>();
};
