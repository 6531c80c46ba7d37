// SPDX-License-Identifier: MIT
// expect: the second

#ifdef UBLK_REJECT
static_assert(false, "the first");
static_assert(false, "the second");
#endif
int main() {}
