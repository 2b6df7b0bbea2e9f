// Runs a fuzz target without a fuzzer: first every kept input of a folder, then mutations of them
// from a seed, so that any compiler finds the same failure again. Prints the mutation that failed;
// with its number as the last argument only that one is run.
//   TARGET CORPUS_FOLDER [mutations [seconds_max [only]]]
#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#include <unistd.h>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

using Bytes = std::vector<std::uint8_t>;

constexpr std::size_t kInputBytesMax = 4096;
// Numbers at which ranges, counts and sizes turn.
constexpr std::uint64_t kEdges[] = {0,      1,          2,          0x7f,       0xff,
                                    0xffff, 0x7fffffff, 0xffffffff, 1ull << 32, 1ull << 63,
                                    ~0ull,  ~0ull - 1,  1ull << 62, 1ull << 31};

volatile std::sig_atomic_t running = -1;

void report(int signal) {
  char text[96];
  const int length = std::snprintf(text, sizeof text, "failed in mutation %d (-1: a kept input)\n",
                                   static_cast<int>(running));
  if (length > 0) static_cast<void>(!write(STDERR_FILENO, text, static_cast<std::size_t>(length)));
  std::signal(signal, SIG_DFL);
  std::raise(signal);
}

void mutate(Bytes& input, const std::vector<Bytes>& corpus, std::mt19937_64& random) {
  const auto at = [&] { return input.empty() ? 0 : random() % input.size(); };
  const auto offset = [](std::size_t index) { return static_cast<std::ptrdiff_t>(index); };
  switch (random() % 7) {
    case 0:
      if (!input.empty()) input[at()] ^= static_cast<std::uint8_t>(1u << random() % 8);
      return;
    case 1:
      if (!input.empty()) input[at()] = static_cast<std::uint8_t>(random());
      return;
    case 2:
      input.resize(at());
      return;
    case 3: {
      const std::uint64_t edge = kEdges[random() % std::size(kEdges)];
      const std::size_t width = std::size_t{1} << random() % 4;
      const std::size_t start = at();
      for (std::size_t i = 0; i < width && start + i < input.size(); ++i) {
        input[start + i] = static_cast<std::uint8_t>(edge >> 8 * i);
      }
      return;
    }
    case 4: {
      const std::size_t start = at();
      const std::size_t count = std::min(random() % 16, input.size() - start);
      input.erase(input.begin() + offset(start), input.begin() + offset(start + count));
      return;
    }
    case 5: {
      const Bytes added(1 + random() % 8, static_cast<std::uint8_t>(random()));
      input.insert(input.begin() + offset(at()), added.begin(), added.end());
      return;
    }
    default: {  // on with another input
      const Bytes& other = corpus[random() % corpus.size()];
      const std::size_t skipped = std::min<std::size_t>(other.size(), 2 * (random() % 2));
      input.insert(input.end(), other.begin() + offset(skipped), other.end());
      return;
    }
  }
}

void run_mutation(int number, const std::vector<Bytes>& corpus) {
  running = number;
  std::mt19937_64 random(static_cast<std::uint64_t>(number));
  Bytes input = corpus[random() % corpus.size()];
  for (std::uint64_t left = 1 + random() % 6; left-- > 0;) mutate(input, corpus, random);
  if (input.size() > kInputBytesMax) input.resize(kInputBytesMax);
  LLVMFuzzerTestOneInput(input.data(), input.size());
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2)
    return std::fputs("usage: TARGET CORPUS_FOLDER [mutations [seconds_max [only]]]\n", stderr), 2;
  std::vector<std::filesystem::path> paths;
  for (const auto& entry : std::filesystem::directory_iterator(argv[1]))
    paths.push_back(entry.path());
  std::ranges::sort(paths);  // so that a mutation's number means the same everywhere
  std::vector<Bytes> corpus{Bytes{}};
  for (const auto& path : paths) {
    std::ifstream file(path, std::ios::binary);
    corpus.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
  }
  for (const int signal : {SIGABRT, SIGSEGV, SIGFPE, SIGILL, SIGBUS}) std::signal(signal, report);
  for (const Bytes& input : corpus) LLVMFuzzerTestOneInput(input.data(), input.size());

  const int mutations = argc > 2 ? std::atoi(argv[2]) : 100'000;
  const std::chrono::seconds seconds_max(argc > 3 ? std::atoi(argv[3]) : 5);
  if (argc > 4) return run_mutation(std::atoi(argv[4]), corpus), 0;
  const auto start = std::chrono::steady_clock::now();
  int number = 0;
  while (number < mutations && std::chrono::steady_clock::now() - start < seconds_max) {
    run_mutation(number++, corpus);
  }
  std::printf("%zu kept inputs and %d mutations\n", corpus.size(), number);
  return 0;
}
