// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/error.hpp>
#include <ublk/request.hpp>
#include <ublk/result.hpp>
#include <ublk/sim/medium.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>

namespace ublk::inline v0::sim {

/// A disk with a volatile cache, to be served in the simulator. The medium is shared, so that it
/// survives the server.
class cached_disk {
public:
    static constexpr bool fua = true;
    static constexpr bool idempotent = true;

    explicit cached_disk(std::shared_ptr<medium> store) noexcept : store_{std::move(store)} {}

    [[nodiscard]] std::uint64_t size() const noexcept { return store_->size(); }
    [[nodiscard]] std::uint32_t logical_block_size() const noexcept { return store_->block_size(); }

    [[nodiscard]] const std::shared_ptr<medium>& store() const noexcept { return store_; }

    result read(const request& r, std::span<std::byte> out) noexcept {
        store_->read(r.offset(), out);
        return ok;
    }

    result write(const request& r, std::span<const std::byte> in) {
        if (r.fua()) {
            store_->write_through(r.offset(), in);
        } else {
            store_->write(r.offset(), in);
        }
        return ok;
    }

    result flush(const request&) noexcept {
        store_->sync();
        return ok;
    }

    /// What is discarded reads as zeroes, though nobody may count on it.
    result discard(const request& r) {
        store_->zero(r.offset(), r.length());
        return ok;
    }

    result write_zeroes(const request& r) {
        if (r.fua()) {
            store_->zero_through(r.offset(), r.length());
        } else {
            store_->zero(r.offset(), r.length());
        }
        return ok;
    }

private:
    std::shared_ptr<medium> store_;
};

}  // namespace ublk::inline v0::sim
