// SPDX-License-Identifier: MIT
#include "specimens.hpp"

#include "../../examples/checksum.hpp"
#include "../../examples/throttle.hpp"

#include <ublk/backends/stripe.hpp>

#include <memory>
#include <utility>
#include <vector>

// Disks on disks, as users write them.

namespace {

using ublk::backends::stripe;

using throttled = throttle<memory>;
using checked = checksum<stripe<memory>>;
using both = checksum<throttle<memory>>;

constexpr throttle_limits fast{.bytes = 1u << 30, .requests = 1'000'000};

stripe<memory> two_in_turn() {
    std::vector<memory> members;
    members.emplace_back(128u << 10);
    members.emplace_back(128u << 10);
    return {4096, std::move(members)};
}

}  // namespace

namespace ublk::sim {

template <>
struct specimen<throttled> {
    static std::shared_ptr<throttled> make() {
        return std::make_shared<throttled>(memory{256u << 10}, fast);
    }
    static std::shared_ptr<throttled> revive(std::shared_ptr<throttled> dead) { return dead; }
    static constexpr bool remembers = true;
};
template <>
struct specimen<checked> {
    static std::shared_ptr<checked> make() { return std::make_shared<checked>(two_in_turn()); }
    static constexpr bool remembers = true;
};
template <>
struct specimen<both> {
    static std::shared_ptr<both> make() {
        return std::make_shared<both>(throttled{memory{256u << 10}, fast});
    }
    static constexpr bool remembers = true;
};

}  // namespace ublk::sim

using ublk::data_path;
using ublk::each;
using ublk::per_cpu;
using ublk::per_wakeup;
using ublk::shared;
using ublk::sim::composition;
using disks_on_disks =
    ::testing::Types<composition<throttled, per_cpu, per_wakeup, data_path::user_copy>,
                     composition<checked, per_cpu, per_wakeup>, composition<both, shared, each>>;

UBLK_LAWS_OF(filters, ::disks_on_disks)
