// SPDX-License-Identifier: MIT
// A disk that reads as zeroes and forgets what is written: shows what everything else costs.
#include "program.hpp"

#include <ublk/backends/null.hpp>

int main(int argc, char** argv) {
    CLI::App app{"Serves a null disk as /dev/ublkbN until a signal ends it."};
    program::settings s;
    program::add_options(app, s);
    return program::run(app, argc, argv,
                        [&] { program::serve_by_name(ublk::backends::null{s.size}, s); });
}
