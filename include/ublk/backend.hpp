// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/detail/backend_traits.hpp>
#include <ublk/disk_attributes.hpp>
#include <ublk/error.hpp>
#include <ublk/operations.hpp>
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
/// `write` may be left out where `read_only` is a constant true. `implements` (see `functions`)
/// makes the compiler compare what is meant to be there with what is.
///
/// Operations return `ublk::result`. Optional members, of which the device derives what it
/// advertises:
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
/// whose bytes lie in memory may also have
/// `std::span<std::byte> memory_for(const request&) noexcept`, the very bytes that are meant: then
/// the kernel copies straight from and to them, and neither function is called. The device takes
/// the best data path that backend and kernel allow (data_path.hpp).
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
/// | `std::uint64_t segment_boundary`     | 0, none: that no piece of clients' memory crosses    |
/// | `std::uint32_t max_segment_size`     | 0, no limit: bytes of such a piece; Linux 6.15       |
/// | `std::uint16_t max_segments`         | 0, no limit: such pieces in one request              |
/// | `std::uint32_t discard_granularity`  | the physical block size                              |
/// | `std::uint32_t discard_alignment`    | 0                                                    |
/// | `std::uint64_t max_discard_size`, `max_write_zeroes_size` | 4 GiB; 0: not offered           |
/// | `bool idempotent`                    | false; true: a request may be served twice, the      |
/// |                                      | second time after others (recovery_kind::reissue)    |
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
    operations::read::mode<B, P> == answers::later ||
    operations::write::mode<B, detail::written_t<P>> == answers::later ||
    operations::flush::mode<B> == answers::later ||
    operations::discard::mode<B> == answers::later ||
    operations::write_zeroes::mode<B> == answers::later;

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

/// Optional functions of a backend, as bits: a backend that declares those that it has, by
/// `static constexpr ublk::functions implements = ublk::functions::flush | ...;`, does not compile
/// where one of them is missing, which a misspelled one is.
enum class functions : unsigned {
    none = 0,
    flush = 1,
    discard = 2,
    write_zeroes = 4,
    memory_for = 8
};
[[nodiscard]] constexpr functions operator|(functions a, functions b) noexcept {
    return static_cast<functions>(static_cast<unsigned>(a) | static_cast<unsigned>(b));
}

namespace detail {

template <class B>
consteval void check_declared() {
    if constexpr (requires { B::implements; }) {
        constexpr auto as_declared = [](functions f, bool there) {
            return ((static_cast<unsigned>(B::implements) & static_cast<unsigned>(f)) != 0) ==
                   there;
        };
        static_assert(as_declared(functions::flush, has_flush<B>),
                      "ublk: implements and the backend differ in: "
                      "ublk::result flush(const ublk::request&) noexcept;");
        static_assert(as_declared(functions::discard, has_discard<B>),
                      "ublk: implements and the backend differ in: "
                      "ublk::result discard(const ublk::request&) noexcept;");
        static_assert(as_declared(functions::write_zeroes, has_write_zeroes<B>),
                      "ublk: implements and the backend differ in: "
                      "ublk::result write_zeroes(const ublk::request&) noexcept;");
        static_assert(as_declared(functions::memory_for, gets_data<B>),
                      "ublk: implements and the backend differ in: "
                      "std::span<std::byte> memory_for(const ublk::request&) noexcept;");
    }
}

}  // namespace detail

/// Compile-time review of a backend: each message is the line to write.
template <class B>
consteval bool check_backend() {
    using detail::memory_span;
    static_assert(detail::has_size<B> || !detail::names_size<B>(),
                  "ublk: a backend's size must be public, and: "
                  "std::uint64_t size() const noexcept;  // bytes");
    static_assert(detail::has_size<B>,
                  "ublk: a backend needs: std::uint64_t size() const noexcept;  // bytes");
    constexpr bool reads = detail::has_read<B, memory_span> || detail::has_read<B, user_copy> ||
                           detail::has_read<B, registered_buffer> ||
                           detail::has_read<B, client_pages>;
    static_assert(reads || !detail::names_read<B>(),
                  "ublk: a backend's read must be public, and: "
                  "ublk::result read(const ublk::request&, std::span<std::byte> out) noexcept;");
    static_assert(reads,
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
    static_assert(operations::read::mode<B, registered_buffer> != answers::now &&
                      operations::write::mode<B, registered_buffer> != answers::now,
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
                  "ublk: a backend's memory_for must be: "
                  "std::span<std::byte> memory_for(const ublk::request&) noexcept;");
    detail::refuse_misspellings<B>();
    static_assert(detail::has_discard<B> || !detail::names_trim<B>(),
                  "ublk: not trim but: ublk::result discard(const ublk::request&) noexcept;");
    static_assert(detail::has_flush<B> || !detail::names_sync<B>(),
                  "ublk: not sync but: ublk::result flush(const ublk::request&) noexcept;");
    detail::check_declared<B>();
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
    disk.segment_boundary = detail::segment_boundary_or(b, 0);
    disk.max_segment_size = detail::max_segment_size_or(b, 0);
    disk.max_segments = detail::max_segments_or(b, 0);
    disk.discard_granularity = detail::discard_granularity_or(b, disk.physical_block_size);
    disk.discard_alignment = detail::discard_alignment_or(b, 0);
    disk.max_discard_size = detail::has_discard<B> ? detail::max_discard_size_or(b, bio_max) : 0;
    disk.discards = disk.max_discard_size != 0;
    disk.max_write_zeroes_size =
        detail::has_write_zeroes<B> ? detail::max_write_zeroes_size_or(b, bio_max) : 0;
    disk.idempotent = detail::idempotent_or(b, false);
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
    case data_path::thread_copy:  // a coroutine holds its bytes for as long as it likes
        return accepts<B, detail::memory_span> && !asynchronous<B, detail::memory_span>;
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
