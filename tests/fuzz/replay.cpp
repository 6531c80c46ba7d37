// SPDX-License-Identifier: MIT
// Runs a target without libFuzzer, so with any compiler:
//
//     replay [--random N] [--seed S] [FILE or DIRECTORY]...
//
// on every file given, then on N inputs that a generator makes: half of them anew, half out of the
// files. Should one of them fail, it is written out in hexadecimal.
#include "bytes.hpp"

#include <ublk/sim/random.hpp>

#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>
#include <string>
#include <vector>

extern "C" void __sanitizer_set_death_callback(void (*)()) __attribute__((weak));

namespace {

namespace fs = std::filesystem;
using input = std::vector<std::uint8_t>;

const char* running_name = nullptr;
const input* running = nullptr;

/// What is running when the program dies.
void say_input() {
    if (const input* const it = running; it != nullptr) {
        running = nullptr;
        std::fprintf(stderr, "ublk fuzz: failed on %s, %zu bytes:\n", running_name, it->size());
        for (const std::uint8_t byte : *it) {
            std::fprintf(stderr, "%02x", unsigned{byte});
        }
        std::fprintf(stderr, "\n");
        std::fflush(stderr);
    }
}

void on_signal(int number) {
    say_input();
    std::signal(number, SIG_DFL);
    (void)std::raise(number);
}

void run(const std::string& name, const input& bytes) {
    running_name = name.c_str();
    running = &bytes;
    (void)LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
    running = nullptr;
}

input read(const fs::path& path) {
    std::ifstream file{path, std::ios::binary};
    if (!file) {
        std::fprintf(stderr, "cannot read %s\n", path.c_str());
        std::exit(2);
    }
    return {std::istreambuf_iterator<char>{file}, {}};
}

/// Sorted, so that a run can be repeated elsewhere.
std::vector<fs::path> files_of(const std::vector<std::string>& arguments) {
    std::set<fs::path> found;
    for (const std::string& each : arguments) {
        if (!fs::is_directory(each)) {
            found.insert(each);
            continue;
        }
        for (const fs::directory_entry& entry : fs::recursive_directory_iterator{each}) {
            if (entry.is_regular_file()) {
                found.insert(entry.path());
            }
        }
    }
    return {found.begin(), found.end()};
}

input invent(ublk::sim::random& dice, const std::vector<input>& known) {
    input made;
    if (known.empty() || dice.chance(2)) {
        made.resize(dice.below(200));
        for (std::uint8_t& byte : made) {
            byte = static_cast<std::uint8_t>(dice());
        }
        return made;
    }
    made = known[dice.below(known.size())];
    const input& other = known[dice.below(known.size())];
    const std::size_t from = dice.below(other.size() + 1);
    if (dice.chance(2)) {
        made.insert(made.end(), other.begin() + static_cast<std::ptrdiff_t>(from), other.end());
    }
    for (std::uint64_t changes = 1 + dice.below(8); changes != 0 && !made.empty(); --changes) {
        made[dice.below(made.size())] = static_cast<std::uint8_t>(dice());
    }
    return made;
}

}  // namespace

int main(int argc, char** argv) {
    std::uint64_t inputs = 0;
    std::uint64_t seed = 1;
    std::vector<std::string> arguments;
    for (int i = 1; i < argc; ++i) {
        const std::string argument = argv[i];
        const bool more = i + 1 < argc;
        if (argument == "--random" && more) {
            inputs = std::strtoull(argv[++i], nullptr, 0);
        } else if (argument == "--seed" && more) {
            seed = std::strtoull(argv[++i], nullptr, 0);
        } else {
            arguments.push_back(argument);
        }
    }
    for (const int fault : {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTERM, SIGALRM}) {
        (void)std::signal(fault, on_signal);
    }
    if (__sanitizer_set_death_callback != nullptr) {
        __sanitizer_set_death_callback(say_input);
    }
    std::vector<input> known;
    for (const fs::path& path : files_of(arguments)) {
        known.push_back(read(path));
        run(path.string(), known.back());
    }
    ublk::sim::random dice{seed};
    for (std::uint64_t i = 0; i < inputs; ++i) {
        run("random input " + std::to_string(i), invent(dice, known));
    }
    std::printf("%zu files and %llu random inputs\n", known.size(),
                static_cast<unsigned long long>(inputs));
    return known.empty() && inputs == 0 ? 2 : 0;
}
