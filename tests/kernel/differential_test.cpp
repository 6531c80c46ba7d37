// SPDX-License-Identifier: MIT

// Plays the scripts of tests/differential on the driver of this kernel and on the simulated one:
// what comes of them must be the same, line by line.

#include "client.hpp"

#include "../differential/linux_client.hpp"
#include "../differential/player.hpp"
#include "../differential/random_commands.hpp"
#include "../differential/random_requests.hpp"
#include "../differential/scripts.hpp"
#include "../differential/sim_client.hpp"

#include <ublk/kernel/linux_kernel.hpp>

#include <array>

namespace ublk_test {

namespace differential {

/// How GoogleTest prints a script: by its name.
inline void PrintTo(const script& tested, std::ostream* out) {
    *out << tested.name;
}

}  // namespace differential

namespace differential_test {
namespace {

using differential::script;
using differential::transcript;

/// The kernel whose source tells what is wanted.
constexpr ublk::kernel_version read_from{7, 3};

[[nodiscard]] std::string text_of(const transcript& lines) {
    std::string text;
    for (std::size_t i = 0; i < lines.size(); ++i) {
        text += "    " + std::to_string(i) + " " + lines[i] + "\n";
    }
    return text;
}

/// Nothing was left behind, and the outcomes are those that the driver's source promises.
void check(const script& tested, const transcript& lines) {
    ASSERT_GE(lines.size(), tested.steps.size());
    for (std::size_t i = 0; i < tested.steps.size() && running_kernel() >= read_from; ++i) {
        const differential::step& s = tested.steps[i];
        EXPECT_TRUE(lines[i].starts_with(s.text + ": " + s.must))
            << "step " << i << ": " << lines[i] << ", where " << s.must << " is wanted";
    }
    for (std::size_t i = tested.steps.size(); i < lines.size(); ++i) {
        ADD_FAILURE() << lines[i];
    }
}

void compare(const script& tested, const transcript& real) {
    for (const std::uint64_t seed : {1u, 2u, 3u}) {
        const transcript simulated = differential::play_simulated(tested, seed, running_kernel(),
                                                                  ublk::detail::online_cpus());
        EXPECT_EQ(simulated.size(), real.size()) << "seed " << seed;
        for (std::size_t i = 0; i < std::min(simulated.size(), real.size()); ++i) {
            EXPECT_EQ(simulated[i], real[i]) << "step " << i << ", seed " << seed;
        }
    }
}

class driver : public on_a_clean_system, public testing::WithParamInterface<script> {};

TEST_P(driver, does_what_the_simulated_one_does) {
    const script& tested = GetParam();
    if (running_kernel() < tested.since || running_kernel() >= tested.until) {
        GTEST_SKIP() << "not for this kernel";
    }
    const transcript real =
        differential::play(tested, ublk::detail::linux_kernel{}, differential::linux_client{});
    check(tested, real);
    compare(tested, real);
    if (HasFailure() || std::getenv("UBLK_TRANSCRIPTS") != nullptr) {
        std::cout << text_of(real);
    }
}

[[nodiscard]] std::vector<script> random_commands() {
    std::vector<script> all;
    for (std::uint64_t seed = 1; seed <= 20; ++seed) {
        all.push_back(differential::random_commands(seed));
    }
    return all;
}

[[nodiscard]] std::vector<script> random_requests() {
    std::vector<script> all;
    for (std::uint64_t seed = 1; seed <= 8; ++seed) {
        all.push_back(differential::random_requests(seed, false));
        all.push_back(differential::random_requests(seed, true));
    }
    return all;
}

[[nodiscard]] std::string name_of_script(const testing::TestParamInfo<script>& info) {
    return info.param.name;
}

INSTANTIATE_TEST_SUITE_P(written, driver, testing::ValuesIn(differential::written_scripts()),
                         name_of_script);
INSTANTIATE_TEST_SUITE_P(commands, driver, testing::ValuesIn(random_commands()), name_of_script);
INSTANTIATE_TEST_SUITE_P(requests, driver, testing::ValuesIn(random_requests()), name_of_script);

}  // namespace
}  // namespace differential_test
}  // namespace ublk_test
