// SPDX-License-Identifier: MIT
#pragma once

// What the benchmarks measure: lists of policies, backends and data paths. A new one is one line
// here; their product, without what `fits` leaves out, is made by the compiler.

#include "hollow.hpp"

#include <ublk/backends/file.hpp>
#include <ublk/backends/memory.hpp>
#include <ublk/backends/null.hpp>
#include <ublk/ublk.hpp>

#include <boost/hana.hpp>

#include <cstddef>
#include <cstdint>
#include <string>
#include <type_traits>

namespace benchmark {

namespace hana = boost::hana;

/// A type with the name that it has on the command line and in reports.
template <class T>
struct entry {
    using type = T;
    const char* name;
};

/// A data path: the type that the loop is made for.
inline constexpr auto data_paths = hana::make_tuple(
    entry<ublk::detail::paths::copy>{"copy"}, entry<ublk::detail::paths::fixed_copy>{"fixed_copy"},
    entry<ublk::detail::paths::user_copy>{"user_copy"},
    entry<ublk::detail::paths::get_data>{"get_data"},
    entry<ublk::detail::paths::zero_copy>{"zero_copy"},
    entry<ublk::detail::paths::auto_buffer>{"auto_buffer"});

/// The first two with all backends, the others with some: see `fits`.
inline constexpr auto queue_policies = hana::make_tuple(
    entry<ublk::per_cpu>{"per_cpu"}, entry<ublk::shared>{"shared"},
    entry<ublk::interleaved>{"interleaved"},
    entry<ublk::with<ublk::per_cpu, ublk::waits::spin_then_block>>{"per_cpu+spin_then_block"},
    entry<ublk::with<ublk::per_cpu, ublk::waits::spin>>{"per_cpu+spin"});

/// The first four with all backends.
inline constexpr auto batch_policies =
    hana::make_tuple(entry<ublk::each>{"each"}, entry<ublk::per_wakeup>{"per_wakeup"},
                     entry<ublk::up_to<16>>{"up_to_16"}, entry<ublk::batch_io>{"batch_io"},
                     entry<ublk::within>{"within"}, entry<ublk::sqpoll>{"sqpoll"});

/// What a backend is made from.
struct settings {
    std::uint64_t bytes = 64u << 20;
    std::string file{};   ///< of backends::file
    bool direct = false;  ///< past the page cache
};

template <class Backend>
struct stored : entry<Backend> {
    Backend (*make)(const settings&);
};

inline constexpr auto backends = hana::make_tuple(
    stored<ublk::backends::null>{{"null"},
                                 [](const settings& s) { return ublk::backends::null{s.bytes}; }},
    stored<hollow>{{"hollow"}, [](const settings& s) { return hollow{s.bytes}; }},
    stored<ublk::backends::memory>{
        {"memory"}, [](const settings& s) { return ublk::backends::memory{s.bytes}; }},
    stored<ublk::backends::file>{{"file"}, [](const settings& s) {
                                     return ublk::backends::file{s.file, {.direct = s.direct}};
                                 }});

/// What every backend is measured with. A loop takes a second to compile, and threads that spin
/// are the same whatever is stored.
template <class QueuePolicy>
inline constexpr bool usual_threads =
    std::is_same_v<QueuePolicy, ublk::per_cpu> || std::is_same_v<QueuePolicy, ublk::shared>;
template <class BatchPolicy>
inline constexpr bool usual_batches = !ublk::batch_policy_traits<BatchPolicy>::timed &&
                                      !ublk::batch_policy_traits<BatchPolicy>::by_kernel_thread;

/// The others, where nothing is stored.
template <class QueuePolicy, class BatchPolicy>
inline constexpr bool unusual_pair =
    usual_threads<QueuePolicy> || std::is_same_v<BatchPolicy, ublk::per_wakeup> ||
    ublk::batch_policy_traits<BatchPolicy>::by_kernel_thread;

/// Whether there is such a disk: whether the library has it, and whether it is wanted.
template <class Backend, class QueuePolicy, class BatchPolicy, class Path>
[[nodiscard]] constexpr bool fits() {
    constexpr bool batches = ublk::batch_policy_traits<BatchPolicy>::by_driver;
    constexpr bool possible = ublk::offers<Backend>(Path::id) &&
                              (!batches || ublk::batches_carry(Path::id)) &&
                              (!batches || !ublk::queue_policy_traits<QueuePolicy>::shares_tags);
    constexpr bool usual = usual_threads<QueuePolicy> && usual_batches<BatchPolicy>;
    return possible && (usual || (std::is_same_v<Backend, ublk::backends::null> &&
                                  unusual_pair<QueuePolicy, BatchPolicy>));
}

template <class Entry>
using type_of = typename std::decay_t<Entry>::type;

struct is_fit {
    template <class Combination>
    constexpr auto operator()(const Combination& each) const {
        return hana::bool_c<fits<
            type_of<decltype(each[hana::size_c<0>])>, type_of<decltype(each[hana::size_c<1>])>,
            type_of<decltype(each[hana::size_c<2>])>, type_of<decltype(each[hana::size_c<3>])>>()>;
    }
};

/// All disks with backend number `Index`: tuples of its entry and those of the two policies and the
/// data path.
template <std::size_t Index>
inline constexpr auto combinations_with_backend = hana::filter(
    hana::cartesian_product(hana::make_tuple(hana::make_tuple(backends[hana::size_c<Index>]),
                                             queue_policies, batch_policies, data_paths)),
    is_fit{});

/// "null/per_cpu/each/copy"
template <class Combination>
[[nodiscard]] std::string name_of(const Combination& each) {
    return hana::unpack(each, [](const auto& first, const auto&... rest) {
        return (std::string{first.name} + ... + ('/' + std::string{rest.name}));
    });
}

}  // namespace benchmark
