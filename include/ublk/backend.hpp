// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/detail/backend_traits.hpp>
#include <ublk/disk_attributes.hpp>
#include <ublk/error.hpp>
#include <ublk/payload.hpp>
#include <ublk/request.hpp>
#include <ublk/result.hpp>
#include <ublk/task.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <type_traits>

/// A backend is what the disk stores. Required members:
///
/// | expression                                            | meaning                              |
/// |-------------------------------------------------------|--------------------------------------|
/// | `b.size()` -> std::uint64_t                           | bytes; read once, at start           |
/// | `b.read(const request&, std::span<std::byte>)`        | fill the whole span                  |
/// | `b.write(const request&, std::span<const std::byte>)` | store the whole span                 |
///
/// `write` may be left out where `read_only` is a constant true. Operations return `ublk::result`.
/// Optional members, of which the device derives what it advertises:
///
/// | if you have it                   | then                           | else                   |
/// |----------------------------------|--------------------------------|------------------------|
/// | `b.flush(const request&)`        | a volatile cache is advertised | writes count as durable |
/// | `b.discard(const request&)`      | discard is advertised          | clients get EOPNOTSUPP |
/// | `b.write_zeroes(const request&)` | the kernel sends no zero bytes | it writes zeroes       |
///
/// Each of these five may instead be asynchronous: `ublk::task read(ublk::io&, const
/// ublk::request&, std::span<std::byte>)`, a coroutine that awaits operations of the queue's own
/// io_uring (io.hpp). Its request is a copy that lives as long as the task.
///
/// `read` and `write` may take other payloads than a span, also several (overloads): a
/// `user_copy`, `client_pages` or, if asynchronous, a `registered_buffer` (payload.hpp). A backend
/// whose bytes lie in memory may also have `std::span<std::byte> memory_for(const request&) noexcept`,
/// the very bytes that are meant: then the kernel copies straight from and to them, and neither
/// function is called. The device takes the best data path that backend and kernel allow
/// (data_path.hpp).
///
/// | constant or const member function    | default                                              |
/// |--------------------------------------|------------------------------------------------------|
/// | `bool read_only`, `rotational`       | false                                                |
/// | `bool volatile_cache`                | whether there is a `flush`                           |
/// | `bool fua`                           | false: the kernel sends a FLUSH after such a write   |
/// | `std::uint32_t logical_block_size`   | 512                                                  |
/// | `std::uint32_t physical_block_size`  | the logical block size                               |
/// | `std::uint32_t minimum_io_size`, `optimal_io_size` | the physical block size                |
/// | `std::uint32_t dma_alignment`        | 4: where clients' memory may begin; Linux 6.15 |
/// | `std::uint32_t discard_granularity`  | the physical block size                              |
/// | `std::uint32_t discard_alignment`    | 0                                                    |
/// | `std::uint64_t max_discard_size`, `max_write_zeroes_size` | 4 GiB; 0: not offered           |
/// | `std::optional<data_path> preferred_path` | none: the one with the fewest copies            |
/// | `std::vector<const registered_file*> ring_files` | none: the files that its operations use |
///
/// | constant of an asynchronous backend       | default                                         |
/// |-------------------------------------------|-------------------------------------------------|
/// | `unsigned operations_in_flight`           | 1: operations of one request at the same time   |
/// | `std::size_t task_bytes`                  | 2048: the frames of one request's coroutines    |
///
/// The operations are called from the queue threads: several at once where the queue policy has
/// several threads, never two at once for the same tag. An exception becomes EIO for its request.
namespace ublk::inline v0 {

namespace detail {

template <class B>
concept has_size = requires(const B& b) {
    { b.size() } -> std::convertible_to<std::uint64_t>;
};

/// What `write` gets where `read` gets P.
template <class P>
struct written {
    using type = P;
};
template <>
struct written<std::span<std::byte>> {
    using type = std::span<const std::byte>;
};

// An operation answers now (a result), or later (a task).
template <class B, class P>
concept reads_now = requires(B& b, const request& r, P out) {
    { b.read(r, out) } -> std::same_as<result>;
};
template <class B, class P>
concept reads_later = requires(B& b, io& i, const request& r, P out) {
    { b.read(i, r, out) } -> std::same_as<task>;
};
template <class B, class P>
concept writes_now = requires(B& b, const request& r, typename written<P>::type in) {
    { b.write(r, in) } -> std::same_as<result>;
};
template <class B, class P>
concept writes_later = requires(B& b, io& i, const request& r, typename written<P>::type in) {
    { b.write(i, r, in) } -> std::same_as<task>;
};
template <class B>
concept flushes_now = requires(B& b, const request& r) {
    { b.flush(r) } -> std::same_as<result>;
};
template <class B>
concept flushes_later = requires(B& b, io& i, const request& r) {
    { b.flush(i, r) } -> std::same_as<task>;
};
template <class B>
concept discards_now = requires(B& b, const request& r) {
    { b.discard(r) } -> std::same_as<result>;
};
template <class B>
concept discards_later = requires(B& b, io& i, const request& r) {
    { b.discard(i, r) } -> std::same_as<task>;
};
template <class B>
concept zeroes_now = requires(B& b, const request& r) {
    { b.write_zeroes(r) } -> std::same_as<result>;
};
template <class B>
concept zeroes_later = requires(B& b, io& i, const request& r) {
    { b.write_zeroes(i, r) } -> std::same_as<task>;
};

template <class B, class P>
concept has_read = reads_now<B, P> || reads_later<B, P>;
template <class B, class P>
concept has_write = writes_now<B, P> || writes_later<B, P>;
template <class B>
concept has_flush = flushes_now<B> || flushes_later<B>;
template <class B>
concept has_discard = discards_now<B> || discards_later<B>;
template <class B>
concept has_write_zeroes = zeroes_now<B> || zeroes_later<B>;
template <class B>
concept gets_data = requires(B& b, const request& r) {
    { b.memory_for(r) }
    noexcept->std::same_as<std::span<std::byte>>;
};

using memory_span = std::span<std::byte>;

template <class B>
consteval bool constantly_read_only() {
    if constexpr (requires { typename std::bool_constant<B::read_only>; }) {
        return B::read_only;
    } else {
        return false;
    }
}

}  // namespace detail

/// Whether B can serve all its reads and writes with their bytes in a P: std::span<std::byte>,
/// user_copy, registered_buffer or client_pages.
template <class B, class P>
concept accepts = detail::has_read<B, P> &&
    (detail::has_write<B, P> || detail::constantly_read_only<B>());

/// The least that a disk needs; `check_backend` says in words what is missing.
template <class B>
concept backend = detail::has_size<B> &&(accepts<B, detail::memory_span> || accepts<B, user_copy> ||
                                         accepts<B, registered_buffer> || accepts<B, client_pages>);

/// Whether one of B's operations is a coroutine when its bytes are in a P.
template <class B, class P>
inline constexpr bool asynchronous =
    detail::reads_later<B, P> || detail::writes_later<B, P> || detail::flushes_later<B> ||
    detail::discards_later<B> || detail::zeroes_later<B>;

/// How many operations of one request may be with the kernel at the same time.
template <class B>
inline constexpr unsigned operations_in_flight = [] {
    if constexpr (requires { std::bool_constant<(B::operations_in_flight > 0)>{}; }) {
        return unsigned{B::operations_in_flight};
    } else {
        return 1u;
    }
}();

/// Bytes that the frames of one request's coroutines take.
template <class B>
inline constexpr std::size_t task_bytes = [] {
    if constexpr (requires { std::bool_constant<(B::task_bytes > 0)>{}; }) {
        return std::size_t{B::task_bytes};
    } else {
        return std::size_t{2048};
    }
}();

/// Compile-time review of a backend: each message is the line to write.
template <class B>
consteval bool check_backend() {
    using detail::memory_span;
    static_assert(detail::has_size<B>,
                  "ublk: a backend needs: std::uint64_t size() const noexcept;  // bytes");
    static_assert(detail::has_read<B, memory_span> || detail::has_read<B, user_copy> ||
                      detail::has_read<B, registered_buffer> || detail::has_read<B, client_pages>,
                  "ublk: a backend needs: "
                  "ublk::result read(const ublk::request&, std::span<std::byte> out) noexcept;");
    constexpr bool never_written = detail::constantly_read_only<B>();
    static_assert(
        !detail::has_read<B, memory_span> || detail::has_write<B, memory_span> || never_written,
        "ublk: a backend needs: "
        "ublk::result write(const ublk::request&, std::span<const std::byte> in) noexcept; "
        "or: static constexpr bool read_only = true;");
    static_assert(!detail::has_read<B, user_copy> || detail::has_write<B, user_copy> ||
                      never_written,
                  "ublk: a backend needs: "
                  "ublk::result write(const ublk::request&, ublk::user_copy in) noexcept; "
                  "or: static constexpr bool read_only = true;");
    static_assert(!detail::has_read<B, registered_buffer> ||
                      detail::has_write<B, registered_buffer> || never_written,
                  "ublk: a backend needs: "
                  "ublk::task write(ublk::io&, const ublk::request&, ublk::registered_buffer in); "
                  "or: static constexpr bool read_only = true;");
    static_assert(!detail::has_read<B, client_pages> || detail::has_write<B, client_pages> ||
                      never_written,
                  "ublk: a backend needs: "
                  "ublk::task write(ublk::io&, const ublk::request&, ublk::client_pages in); "
                  "or: static constexpr bool read_only = true;");
    static_assert(!detail::reads_now<B, registered_buffer> &&
                      !detail::writes_now<B, registered_buffer>,
                  "ublk: only an asynchronous function can use a registered buffer: "
                  "ublk::task read(ublk::io&, const ublk::request&, ublk::registered_buffer out);");
    static_assert(!detail::names_flush<B>() || detail::has_flush<B>,
                  "ublk: a backend's flush must be: "
                  "ublk::result flush(const ublk::request&) noexcept;");
    static_assert(!detail::names_discard<B>() || detail::has_discard<B>,
                  "ublk: a backend's discard must be: "
                  "ublk::result discard(const ublk::request&) noexcept;");
    static_assert(!detail::names_write_zeroes<B>() || detail::has_write_zeroes<B>,
                  "ublk: a backend's write_zeroes must be: "
                  "ublk::result write_zeroes(const ublk::request&) noexcept;");
    static_assert(!detail::names_memory_for<B>() || detail::gets_data<B>,
                  "ublk: a backend's get_data must be: "
                  "std::span<std::byte> memory_for(const ublk::request&) noexcept;");
    detail::refuse_misspellings<B>();
    static_assert(!(detail::names_volatile_cache<B>() || detail::names_fua<B>()) ||
                      detail::has_flush<B>,
                  "ublk: a backend with volatile_cache or fua also needs: "
                  "ublk::result flush(const ublk::request&) noexcept;");
    return true;
}

/// What the device advertises, derived from what the backend has.
template <class B>
[[nodiscard]] disk_attributes attributes_of(const B& b) {
    constexpr std::uint64_t bio_max = std::numeric_limits<std::uint32_t>::max();
    disk_attributes disk;
    disk.size = b.size();
    disk.logical_block_size = detail::logical_block_size_or(b, sector_size);
    disk.physical_block_size = detail::physical_block_size_or(b, disk.logical_block_size);
    disk.minimum_io_size = detail::minimum_io_size_or(b, disk.physical_block_size);
    disk.optimal_io_size = detail::optimal_io_size_or(b, disk.physical_block_size);
    disk.read_only = detail::read_only_or(b, false);
    disk.rotational = detail::rotational_or(b, false);
    disk.volatile_cache = detail::volatile_cache_or(b, detail::has_flush<B>);
    disk.fua = detail::fua_or(b, false);
    disk.dma_alignment = detail::dma_alignment_or(b, 0);
    disk.discard_granularity = detail::discard_granularity_or(b, disk.physical_block_size);
    disk.discard_alignment = detail::discard_alignment_or(b, 0);
    disk.max_discard_size = detail::has_discard<B> ? detail::max_discard_size_or(b, bio_max) : 0;
    disk.discards = disk.max_discard_size != 0;
    disk.max_write_zeroes_size =
        detail::has_write_zeroes<B> ? detail::max_write_zeroes_size_or(b, bio_max) : 0;
    disk.preferred_path = detail::preferred_path_or(b, std::nullopt);
    disk.ring_files = detail::ring_files_or(b, {});
    return disk;
}

/// Whether B can be served that way.
template <class B>
[[nodiscard]] constexpr bool offers(data_path path) noexcept {
    switch (path) {
    case data_path::copy:
        return accepts<B, detail::memory_span>;
    case data_path::user_copy:
        return accepts<B, user_copy>;
    case data_path::get_data:
        return detail::gets_data<B>;
    case data_path::pages:
        return accepts<B, client_pages>;
    case data_path::fixed_copy:
    case data_path::zero_copy:
    case data_path::auto_buffer:
        return accepts<B, registered_buffer>;
    }
    return false;
}

}  // namespace ublk::inline v0
