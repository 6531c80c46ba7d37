// SPDX-License-Identifier: MIT
// expect: something

int main() {}
