// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/backends/operation_calls.hpp>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

/// The functions of backends that stand on others.
namespace ublk::inline v0::detail {

// A function whose mere name would promise what is not there is in a base, which is there or not.
#define UBLK_DETAIL_WITH(name)                                                                     \
    template <class Self, answers How>                                                             \
    class with_##name {                                                                            \
    public:                                                                                        \
        result name(const request& r) requires(How == answers::now) {                              \
            return static_cast<Self&>(*this).template now<operations::name>(r);                    \
        }                                                                                          \
        task name(io& with, const request& r) noexcept requires(How == answers::later) {           \
            return static_cast<Self&>(*this).template later<operations::name>(with, r);            \
        }                                                                                          \
    };                                                                                             \
    template <class Self>                                                                          \
    class with_##name<Self, answers::never> {};

UBLK_DETAIL_WITH(flush)
UBLK_DETAIL_WITH(discard)
UBLK_DETAIL_WITH(write_zeroes)

#undef UBLK_DETAIL_WITH

template <class Self, bool Flushes>
class with_cache {
public:
    [[nodiscard]] bool volatile_cache() const noexcept { return shown().volatile_cache; }
    [[nodiscard]] bool fua() const noexcept { return shown().fua; }

private:
    [[nodiscard]] const disk_attributes& shown() const noexcept {
        return static_cast<const Self&>(*this).attributes();
    }
};
template <class Self>
class with_cache<Self, false> {};

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
class decorator : public with_flush<Self, How::template of<operations::flush>>,
                  public with_discard<Self, How::template of<operations::discard>>,
                  public with_write_zeroes<Self, How::template of<operations::write_zeroes>>,
                  public with_cache<Self, How::template of<operations::flush> != answers::never>,
                  public with_read_only<Self, How::read_only> {
    template <class Op, class P, answers When>
    static constexpr bool is = payload<P>&& How::template of<Op, P> == When;

public:
    /// All that the device shows of it.
    [[nodiscard]] const disk_attributes& attributes() const noexcept { return shown_; }

    [[nodiscard]] std::uint64_t size() const noexcept { return shown_.size; }
    [[nodiscard]] bool rotational() const noexcept { return shown_.rotational; }
    [[nodiscard]] bool idempotent() const noexcept { return shown_.idempotent; }
    [[nodiscard]] std::uint32_t logical_block_size() const noexcept {
        return shown_.logical_block_size;
    }
    [[nodiscard]] std::uint32_t physical_block_size() const noexcept {
        return shown_.physical_block_size;
    }
    [[nodiscard]] std::uint32_t minimum_io_size() const noexcept { return shown_.minimum_io_size; }
    [[nodiscard]] std::uint32_t optimal_io_size() const noexcept { return shown_.optimal_io_size; }
    [[nodiscard]] std::uint32_t dma_alignment() const noexcept { return shown_.dma_alignment; }
    [[nodiscard]] std::uint64_t segment_boundary() const noexcept {
        return shown_.segment_boundary;
    }
    [[nodiscard]] std::uint32_t max_segment_size() const noexcept {
        return shown_.max_segment_size;
    }
    [[nodiscard]] std::uint16_t max_segments() const noexcept { return shown_.max_segments; }
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

    template <class P>
    result read(const request& r, P out) requires is<operations::read, P, answers::now> {
        return self().template now<operations::read>(r, out);
    }
    template <class P>
    task read(io& with, const request& r,
              P out) noexcept requires is<operations::read, P, answers::later> {
        return self().template later<operations::read>(with, r, out);
    }
    template <class P>
    result write(const request& r, P in) requires is<operations::write, P, answers::now> {
        return self().template now<operations::write>(r, in);
    }
    template <class P>
    task write(io& with, const request& r,
               P in) noexcept requires is<operations::write, P, answers::later> {
        return self().template later<operations::write>(with, r, in);
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
