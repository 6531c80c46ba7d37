// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/backends/operation_calls.hpp>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

/// What backends that stand on others show of themselves: just the functions that those have.
namespace ublk::inline v0::detail {

// Functions whose mere names would promise what is not there, so each is a base or none is.
template <class Self, answers How>
class with_flush {
public:
    [[nodiscard]] bool volatile_cache() const noexcept { return shown().volatile_cache; }
    [[nodiscard]] bool fua() const noexcept { return shown().fua; }

    result flush(const request& r) requires(How == answers::now) {
        return static_cast<Self&>(*this).template now<flush_op>(r);
    }
    task flush(io& with, const request& r) noexcept requires(How == answers::later) {
        return static_cast<Self&>(*this).template later<flush_op>(with, r);
    }

private:
    [[nodiscard]] const disk_attributes& shown() const noexcept {
        return static_cast<const Self&>(*this).attributes();
    }
};
template <class Self>
class with_flush<Self, answers::never> {};

template <class Self, answers How>
class with_discard {
public:
    result discard(const request& r) requires(How == answers::now) {
        return static_cast<Self&>(*this).template now<discard_op>(r);
    }
    task discard(io& with, const request& r) noexcept requires(How == answers::later) {
        return static_cast<Self&>(*this).template later<discard_op>(with, r);
    }
};
template <class Self>
class with_discard<Self, answers::never> {};

template <class Self, answers How>
class with_write_zeroes {
public:
    result write_zeroes(const request& r) requires(How == answers::now) {
        return static_cast<Self&>(*this).template now<write_zeroes_op>(r);
    }
    task write_zeroes(io& with, const request& r) noexcept requires(How == answers::later) {
        return static_cast<Self&>(*this).template later<write_zeroes_op>(with, r);
    }
};
template <class Self>
class with_write_zeroes<Self, answers::never> {};

template <class Self, bool Constantly>
class with_read_only {
public:
    static constexpr bool read_only = true;
};
template <class Self>
class with_read_only<Self, false> {
public:
    [[nodiscard]] bool read_only() const noexcept {
        return static_cast<const Self&>(*this).attributes().read_only;
    }
};

/// A backend's public functions, made from two of Self's: `now<Op>(r, payload...)` -> result and
/// `later<Op>(with, r, payload...)` -> task. How says which there are, by `of<Op, P...>` and
/// `read_only`.
template <class Self, class How>
class decorator : public with_flush<Self, How::template of<flush_op>>,
                  public with_discard<Self, How::template of<discard_op>>,
                  public with_write_zeroes<Self, How::template of<write_zeroes_op>>,
                  public with_read_only<Self, How::read_only> {
    template <class Op, class P>
    static constexpr bool is_now = How::template of<Op, P> == answers::now;
    template <class Op, class P>
    static constexpr bool is_later = How::template of<Op, P> == answers::later;
    using mutable_bytes = std::span<std::byte>;
    using const_bytes = std::span<const std::byte>;

public:
    /// All that the device shows of it.
    [[nodiscard]] const disk_attributes& attributes() const noexcept { return shown_; }

    [[nodiscard]] std::uint64_t size() const noexcept { return shown_.size; }
    [[nodiscard]] bool rotational() const noexcept { return shown_.rotational; }
    [[nodiscard]] std::uint32_t logical_block_size() const noexcept {
        return shown_.logical_block_size;
    }
    [[nodiscard]] std::uint32_t physical_block_size() const noexcept {
        return shown_.physical_block_size;
    }
    [[nodiscard]] std::uint32_t minimum_io_size() const noexcept { return shown_.minimum_io_size; }
    [[nodiscard]] std::uint32_t optimal_io_size() const noexcept { return shown_.optimal_io_size; }
    [[nodiscard]] std::uint32_t dma_alignment() const noexcept { return shown_.dma_alignment; }
    [[nodiscard]] std::uint32_t discard_granularity() const noexcept {
        return shown_.discard_granularity;
    }
    [[nodiscard]] std::uint32_t discard_alignment() const noexcept {
        return shown_.discard_alignment;
    }
    [[nodiscard]] std::uint64_t max_discard_size() const noexcept {
        return shown_.max_discard_size;
    }
    [[nodiscard]] std::uint64_t max_write_zeroes_size() const noexcept {
        return shown_.max_write_zeroes_size;
    }

    result read(const request& r, mutable_bytes out) requires is_now<read_op, mutable_bytes> {
        return self().template now<read_op>(r, out);
    }
    result read(const request& r, user_copy out) requires is_now<read_op, user_copy> {
        return self().template now<read_op>(r, out);
    }
    task read(io& with, const request& r,
              mutable_bytes out) noexcept requires is_later<read_op, mutable_bytes> {
        return self().template later<read_op>(with, r, out);
    }
    task read(io& with, const request& r,
              user_copy out) noexcept requires is_later<read_op, user_copy> {
        return self().template later<read_op>(with, r, out);
    }
    task read(io& with, const request& r,
              registered_buffer out) noexcept requires is_later<read_op, registered_buffer> {
        return self().template later<read_op>(with, r, out);
    }

    result write(const request& r, const_bytes in) requires is_now<write_op, const_bytes> {
        return self().template now<write_op>(r, in);
    }
    result write(const request& r, user_copy in) requires is_now<write_op, user_copy> {
        return self().template now<write_op>(r, in);
    }
    task write(io& with, const request& r,
               const_bytes in) noexcept requires is_later<write_op, const_bytes> {
        return self().template later<write_op>(with, r, in);
    }
    task write(io& with, const request& r,
               user_copy in) noexcept requires is_later<write_op, user_copy> {
        return self().template later<write_op>(with, r, in);
    }
    task write(io& with, const request& r,
               registered_buffer in) noexcept requires is_later<write_op, registered_buffer> {
        return self().template later<write_op>(with, r, in);
    }

    [[nodiscard]] std::optional<data_path> preferred_path() const noexcept {
        return shown_.preferred_path;
    }

protected:
    decorator() noexcept = default;

    /// Files are part of the backends below, which may be moved as yet: Self asks for them when the
    /// device starts.
    explicit decorator(const disk_attributes& shown) : shown_{shown} { shown_.ring_files.clear(); }

private:
    [[nodiscard]] Self& self() noexcept { return static_cast<Self&>(*this); }

    disk_attributes shown_;
};

}  // namespace ublk::inline v0::detail
