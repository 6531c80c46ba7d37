// SPDX-License-Identifier: MIT
// The loops with one backend, whose number the build gives.
#include "instant_port.hpp"
#include "loop.hpp"

#include <ublk/data/queue_loop.hpp>

#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <utility>

namespace benchmark {

namespace {

template <class Port, class BatchPolicy, class Path, class Backend>
void serve(Backend& backend, Port& port, std::vector<ublk::detail::queue>& queues) {
    ublk::detail::queue_loop<Backend, BatchPolicy, Port, true, Path> loop{backend, port, queues};
    if (loop.fetch_all() != 0 || loop.run() != 0) {
        std::abort();
    }
}

template <class Backend, class BatchPolicy, class Path>
std::uint64_t run(const settings& s, bool writes, unsigned turns) {
    constexpr auto mine = backends[hana::size_c<UBLK_BENCHMARK_BACKEND>];
    Backend backend = mine.make(s);
    const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    ublk::detail::mapping descriptors{page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
                                      0,    "descriptors"};
    std::byte* const words = descriptors.data();
    // What stands for /dev/ublkcN, where user_copy reads and writes.
    const ublk::fd file{static_cast<int>(::memfd_create("pages", MFD_CLOEXEC))};
    if (!file || ::ftruncate(file.get(), off_t{1} << 40) != 0) {
        std::abort();
    }
    std::vector<ublk::detail::queue> queues;
    queues.emplace_back(ublk::queue_id{0}, std::move(descriptors), sizeof(ublk::uapi::io_desc),
                        ublk::detail::tag_buffers{depth, page, {}}, depth, file.get());
    if constexpr (ublk::batch_policy_traits<BatchPolicy>::by_driver) {
        const ublk::queue_id ids[] = {ublk::queue_id{0}};
        using port_type = ublk::detail::batch_port<instant_wire, ublk::has_tag_buffers(Path::id)>;
        port_type port{instant_channel{words, writes}, turns,
                       ublk::detail::port_needs{.tags = depth, .queues = ids, .depth = depth}};
        const std::uint64_t before = instant_wire::served;
        serve<port_type, BatchPolicy, Path>(backend, port, queues);
        return instant_wire::served - before;
    } else {
        instant_port port{words, writes, turns};
        port.asks_for_data = Path::id == ublk::data_path::get_data;
        serve<instant_port, BatchPolicy, Path>(backend, port, queues);
        return port.served;
    }
}

}  // namespace

/// A loop knows of its queue policy only whether it serves one queue: here it does.
template <>
std::vector<loop> loops_with_backend<UBLK_BENCHMARK_BACKEND>() {
    std::vector<loop> found;
    hana::for_each(combinations_with_backend<UBLK_BENCHMARK_BACKEND>, [&](const auto& each) {
        const auto part = [&](auto number) { return each[number]; };
        if constexpr (std::is_same_v<type_of<decltype(part(hana::size_c<1>))>, ublk::per_cpu>) {
            found.push_back({name_of(each), &run<type_of<decltype(part(hana::size_c<0>))>,
                                                 type_of<decltype(part(hana::size_c<2>))>,
                                                 type_of<decltype(part(hana::size_c<3>))>>});
        }
    });
    return found;
}

}  // namespace benchmark
