// SPDX-License-Identifier: MIT

// The scripts of tests/differential on the simulated driver: what comes of them is what the real
// driver's source promises, which the kernel tests compare with the real driver itself.

#include "../differential/random_commands.hpp"
#include "../differential/random_requests.hpp"
#include "../differential/scripts.hpp"
#include "../differential/sim_client.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <ostream>
#include <string>
#include <vector>

namespace ublk_test {

namespace scripts_test {
namespace {

using differential::script;
using differential::transcript;

constexpr ublk::kernel_version source{7, 3};
constexpr unsigned cpus = 2;

/// A test's parameter, and not the script itself: GoogleTest copies each a dozen times, and every
/// start of this program would take a tenth of a second.
struct chosen {
    const script* tested;
};

/// By its name.
void PrintTo(const chosen& one, std::ostream* out) {
    *out << one.tested->name;
}

class simulated_driver : public testing::TestWithParam<chosen> {};
class older_drivers : public testing::TestWithParam<chosen> {};

TEST_P(simulated_driver, does_what_the_source_says) {
    const script& tested = *GetParam().tested;
    for (const std::uint64_t seed : {1u, 2u, 3u}) {
        const transcript lines = differential::play_simulated(tested, seed, source, cpus);
        ASSERT_GE(lines.size(), tested.steps.size());
        for (std::size_t i = 0; i < tested.steps.size(); ++i) {
            const differential::step& s = tested.steps[i];
            EXPECT_TRUE(lines[i].starts_with(s.text + ": " + s.must))
                << "step " << i << ": " << lines[i] << ", where " << s.must << " is wanted";
        }
        for (std::size_t i = tested.steps.size(); i < lines.size(); ++i) {
            ADD_FAILURE() << lines[i];
        }
    }
}

/// On older kernels, of which nobody has written down what they must say: the same at each seed.
TEST_P(older_drivers, repeat_themselves) {
    const script& tested = *GetParam().tested;
    for (const ublk::kernel_version version :
         {ublk::kernel_version{6, 8}, ublk::kernel_version{6, 12}, ublk::kernel_version{6, 12, 117},
          ublk::kernel_version{6, 16}, ublk::kernel_version{7, 0}}) {
        if (version < tested.since || version >= tested.until) {
            continue;
        }
        const transcript first = differential::play_simulated(tested, 1, version, cpus);
        EXPECT_EQ(differential::play_simulated(tested, 1, version, cpus), first)
            << "the same seed, another life, on " << version.text();
    }
}

/// The line of a script's transcript that begins so, on one kernel.
[[nodiscard]] std::string line_on(ublk::kernel_version version, const std::string& name,
                                  const std::string& begins) {
    const std::vector<script> all = differential::written_scripts();
    const auto tested =
        std::find_if(all.begin(), all.end(), [&](const script& s) { return s.name == name; });
    if (tested == all.end()) {
        return "no such script";
    }
    const transcript lines = differential::play_simulated(*tested, 1, version, cpus);
    const auto line = std::find_if(lines.begin(), lines.end(), [&](const std::string& each) {
        return each.starts_with(begins);
    });
    return line == lines.end() ? "no such line" : line->substr(begins.size());
}

TEST(stable_drivers, have_what_was_backported_to_them) {
    const auto odd_zones_on = [](ublk::kernel_version version) {
        return line_on(version, "set_params_zoned", "SET_PARAMS d0 (odd zones): ");
    };
    EXPECT_EQ(odd_zones_on({6, 12, 107}), "0");
    EXPECT_EQ(odd_zones_on({6, 12, 111}), "EINVAL");
    EXPECT_EQ(odd_zones_on({6, 16, 12}), "0");
    EXPECT_EQ(odd_zones_on({7, 0}), "EINVAL");
}

[[nodiscard]] std::vector<script> make_scripts() {
    std::vector<script> all = differential::written_scripts();
    for (std::uint64_t seed = 1; seed <= 20; ++seed) {
        all.push_back(differential::random_commands(seed));
        all.push_back(differential::random_requests(seed, seed % 2 == 0));
    }
    return all;
}

[[nodiscard]] std::vector<chosen> scripts() {
    static const std::vector<script> all = make_scripts();
    std::vector<chosen> each;
    for (const script& one : all) {
        each.push_back({&one});
    }
    return each;
}

[[nodiscard]] std::vector<chosen> scripts_for_the_source() {
    std::vector<chosen> all = scripts();
    std::erase_if(all, [](const chosen& one) {
        return source < one.tested->since || source >= one.tested->until;
    });
    return all;
}

[[nodiscard]] std::string name_of_script(const testing::TestParamInfo<chosen>& tried) {
    return tried.param.tested->name;
}

INSTANTIATE_TEST_SUITE_P(scripts, simulated_driver, testing::ValuesIn(scripts_for_the_source()),
                         name_of_script);
INSTANTIATE_TEST_SUITE_P(scripts, older_drivers, testing::ValuesIn(scripts()), name_of_script);

}  // namespace
}  // namespace scripts_test
}  // namespace ublk_test
