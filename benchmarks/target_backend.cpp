// SPDX-License-Identifier: MIT
// The disks with one backend, whose number the build gives: so that no compiler has to take all.
#include "target.hpp"

namespace benchmark {

namespace {

template <class Backend, class QueuePolicy, class BatchPolicy>
void serve(const settings& s, ublk::options requested, std::stop_token token,
           const std::function<void(const std::string&, const ublk::device_info&)>& started) {
    constexpr auto mine = backends[hana::size_c<UBLK_BENCHMARK_BACKEND>];
    ublk::device<Backend, QueuePolicy, BatchPolicy> served{mine.make(s), requested};
    served.start();
    started(served.path(), served.info());
    served.wait(token);
}

}  // namespace

template <>
std::vector<disk> disks_with_backend<UBLK_BENCHMARK_BACKEND>() {
    std::vector<disk> found;
    hana::for_each(combinations_with_backend<UBLK_BENCHMARK_BACKEND>, [&](const auto& each) {
        const auto part = [&](auto number) { return each[number]; };
        found.push_back({name_of(each),
                         &serve<type_of<decltype(part(hana::size_c<0>))>,
                                type_of<decltype(part(hana::size_c<1>))>,
                                type_of<decltype(part(hana::size_c<2>))>>,
                         type_of<decltype(part(hana::size_c<3>))>::id});
    });
    return found;
}

}  // namespace benchmark
