// SPDX-License-Identifier: MIT
//
// Usage: ublk_sim_marathon [REQUESTS [FIRST_SEED]]
//
// Simulates lives of disks, each with its own kernel, policies and failures, until so many requests
// were answered; every answer is compared with a model. Exit status: 0 when nothing was wrong, 1
// when something was. A violation says with which seed: ublk_sim_marathon 1 SEED runs that world.
#include <ublk/backends/memory.hpp>
#include <ublk/policy/batch_policy.hpp>
#include <ublk/policy/queue_policies.hpp>
#include <ublk/policy/with.hpp>
#include <ublk/sim/cached_disk.hpp>
#include <ublk/sim/medium.hpp>
#include <ublk/sim/rig.hpp>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <iterator>
#include <memory>
#include <string>

using ublk::backends::memory;
using ublk::sim::cached_disk;

template <>
struct ublk::sim::specimen<memory> {
    static std::shared_ptr<memory> make() { return std::make_shared<memory>(512u << 10); }
    static std::shared_ptr<memory> after_death(const std::shared_ptr<memory>& dead, model& expected,
                                               random&) {
        expected.server_died();
        return dead;
    }
};

template <>
struct ublk::sim::specimen<cached_disk> {
    static std::shared_ptr<cached_disk> make() {
        return std::make_shared<cached_disk>(std::make_shared<medium>(512u << 10, sector_size));
    }
    static std::shared_ptr<cached_disk> after_death(const std::shared_ptr<cached_disk>& dead,
                                                    model& expected, random& dice) {
        if (dice.chance(2)) {
            expected.server_died();
        } else {
            dead->store()->power_cut(dice);
            dead->store()->thaw();
            expected.power_cut();
        }
        return dead;
    }
};

namespace {

using namespace ublk;
using namespace ublk::sim;

struct tally {
    std::uint64_t answered = 0;
    std::uint64_t failed = 0;
    std::uint64_t worlds = 0;
    std::uint64_t deaths = 0;
    std::uint64_t bad = 0;
};

/// What kind of world a seed makes.
conditions conditions_of(std::uint64_t seed) {
    constexpr kernel_version versions[] = {{7, 3}, {6, 8}, {6, 12}, {6, 16}, {7, 0}};
    sim::random dice{seed * 2654435761u};
    conditions given;
    given.seed = seed;
    given.version = versions[dice.below(std::size(versions))];
    given.switches = static_cast<std::uint32_t>(dice.below(6));
    given.completions = dice.chance(4) ? 1 + static_cast<unsigned>(dice.below(6)) : 0;
    const auto now_and_then = [&dice] {
        return dice.chance(2) ? 0 : 3 + static_cast<std::uint32_t>(dice.below(100));
    };
    given.often = {now_and_then(), now_and_then(), now_and_then(), now_and_then(), now_and_then()};
    return given;
}

/// How a life ends.
enum class ending { when_done, early, stopped, killed };

/// Clients at work on a started disk, until that end.
template <class Composition>
void work(rig<Composition>& r, ending end, tally& sum) {
    sim::random& dice = r.in.dice();
    habits given;
    given.submitters = 1 + static_cast<unsigned>(dice.below(4));
    given.in_flight = 1 + static_cast<unsigned>(dice.below(10));
    given.requests = 200 + dice.below(1500);
    given.region = dice.chance(3) ? 32 : 0;
    given.bears_errors = end == ending::stopped || end == ending::killed;
    workload clients{r.in, r.server->id(), r.expected, given};
    clients.start();
    if (end != ending::when_done) {
        r.in.on().tasks.sleep(std::chrono::microseconds{dice.below(8000)});
        clients.hush();
    }
    if (end == ending::stopped) {
        r.server->stop();
    } else if (end == ending::killed) {
        r.last().kill();
    }
    clients.finish();
    if (end == ending::when_done) {
        clients.read_all();
    }
    sum.answered += clients.answered();
    sum.failed += clients.failed();
}

template <class Composition>
void live(rig<Composition>& r, tally& sum) {
    const auto end = static_cast<ending>(r.in.dice().below(4));
    r.start();
    work(r, end, sum);
    if (end != ending::killed) {
        r.server->stop();
        return;
    }
    ++sum.deaths;
    r.server.reset();
    r.clean_up();
    using backend = typename Composition::backend;
    r.store = specimen<backend>::after_death(r.store, r.expected, r.in.dice());
}

template <class Composition>
void run_world(std::uint64_t seed, tally& sum) {
    conditions given = conditions_of(seed);
    given.replay = "ublk_sim_marathon 1 " + std::to_string(seed);
    rig<Composition> r{given};
    try {
        for (int lives = 0; lives < 3 && r.in.on().blameless(); ++lives) {
            live(r, sum);
        }
    } catch (const std::exception& thrown) {
        r.in.on().violation(std::string{"an exception: "} + thrown.what());
    }
    r.server.reset();
    r.in.settle();
    if (r.in.forget_devices() != 0) {
        r.in.on().violation("a device is left behind");
    }
    sum.bad += r.in.take_violations().empty() ? 0 : 1;
    ++sum.worlds;
}

using spins = with<per_cpu, waits::spin_then_block>;

void run_world(std::uint64_t seed, tally& sum) {
    switch (seed % 8) {
    case 0:
        return run_world<composition<memory, per_cpu, each>>(seed, sum);
    case 1:
        return run_world<composition<memory, per_cpu, per_wakeup>>(seed, sum);
    case 2:
        return run_world<composition<memory, interleaved, up_to<3>>>(seed, sum);
    case 3:
        return run_world<composition<cached_disk, per_cpu, batch_io>>(seed, sum);
    case 4:
        return run_world<composition<cached_disk, per_cpu, per_wakeup>>(seed, sum);
    case 5:
        return run_world<composition<cached_disk, spins, within>>(seed, sum);
    case 6:
        return run_world<composition<cached_disk, pooled, batch_io>>(seed, sum);
    default:
        return run_world<composition<cached_disk, shared, per_wakeup>>(seed, sum);
    }
}

}  // namespace

int main(int argc, char** argv) {
    const std::uint64_t wanted = argc > 1 ? std::strtoull(argv[1], nullptr, 0) : 10'000'000;
    std::uint64_t seed = argc > 2 ? std::strtoull(argv[2], nullptr, 0) : 1;
    const auto began = std::chrono::steady_clock::now();
    tally sum;
    while (sum.answered < wanted && sum.bad == 0) {
        run_world(seed++, sum);
    }
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - began;
    const auto number = [](std::uint64_t n) { return static_cast<unsigned long long>(n); };
    std::printf("%llu requests answered (%llu with an error, as they must) in %llu worlds, %llu "
                "servers killed, %.1f s\n",
                number(sum.answered), number(sum.failed), number(sum.worlds), number(sum.deaths),
                took.count());
    if (sum.bad != 0) {
        std::printf("something was wrong in the world of seed %llu, see above\n", number(seed - 1));
        return 1;
    }
}
