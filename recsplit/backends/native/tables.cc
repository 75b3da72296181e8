#include "tables.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <mutex>

#include "error.h"

namespace recsplit {

namespace {

constexpr uint64_t kPage = 4096;
// Files from this size on are worth a copy into huge pages: below it the processor's own cache of addresses reaches over them.
constexpr uint64_t kWorthCopying = 8 << 20;

// Of the memory that is available when a file is mapped, so much is reckoned to hold its pages.
constexpr double kSpared = 0.8;
constexpr uint64_t kWarmed = 64 << 20;  // bytes that are read without looking whether the model goes
constexpr int kPopulateRead = 22;       // MADV_POPULATE_READ, which older headers don't have

// A page that goes missing under a mapping (its file was cut short) is a SIGBUS, which would end the server and all its models. A page of
// zeros is put in its place, and the file is marked as broken: the requests that read of it fail, and nothing else does.
struct Guarded {
  std::atomic<uintptr_t> start{0};
  std::atomic<uintptr_t> end{0};
  std::atomic<bool> broken{false};
};
constexpr int kMostGuarded = 1024;
Guarded guarded[kMostGuarded];
struct sigaction previous;
std::mutex installing;
bool installed = false;

void on_bus_error(int number, siginfo_t* info, void* context) {
  const auto address = reinterpret_cast<uintptr_t>(info->si_addr);
  for (Guarded& item : guarded) {
    if (address < item.start.load() || address >= item.end.load()) continue;
    item.broken.store(true);
    void* page = reinterpret_cast<void*>(address & ~(kPage - 1));
    if (mmap(page, kPage, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != MAP_FAILED) return;
  }
  if ((previous.sa_flags & SA_SIGINFO) != 0 && previous.sa_sigaction != nullptr) {
    previous.sa_sigaction(number, info, context);
  } else if (previous.sa_handler != SIG_DFL && previous.sa_handler != SIG_IGN && previous.sa_handler != nullptr) {
    previous.sa_handler(number);
  } else {
    signal(number, SIG_DFL);  // the read is made again, and ends the process as it would have
  }
}

int guard(const char* data, uint64_t size) {
  const std::lock_guard<std::mutex> lock(installing);
  if (!installed) {
    struct sigaction action{};
    action.sa_sigaction = on_bus_error;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
    sigemptyset(&action.sa_mask);
    installed = sigaction(SIGBUS, &action, &previous) == 0;
  }
  for (int number = 0; number < kMostGuarded; ++number) {
    if (guarded[number].end.load() != 0) continue;
    guarded[number].broken.store(false);
    guarded[number].start.store(reinterpret_cast<uintptr_t>(data));
    guarded[number].end.store(reinterpret_cast<uintptr_t>(data) + size);
    return number;
  }
  return -1;
}

void release(int number) {
  if (number < 0) return;
  const std::lock_guard<std::mutex> lock(installing);
  guarded[number].end.store(0);
  guarded[number].start.store(0);
}

uint64_t available_bytes() {
  uint64_t kilobytes = 0;
  if (FILE* file = std::fopen("/proc/meminfo", "re")) {
    char line[256];
    while (std::fgets(line, sizeof line, file) != nullptr) {
      unsigned long long number = 0;
      if (std::sscanf(line, "MemAvailable: %llu kB", &number) == 1) kilobytes = number;
    }
    std::fclose(file);
  }
  return kilobytes * 1024;
}

bool huge_pages_offered() {
  char text[128] = {};
  if (FILE* file = std::fopen("/sys/kernel/mm/transparent_hugepage/enabled", "re")) {
    if (std::fgets(text, sizeof text, file) == nullptr) text[0] = '\0';
    std::fclose(file);
  }
  return std::strstr(text, "[madvise]") != nullptr || std::strstr(text, "[always]") != nullptr;
}

Loading choose(uint64_t size) {
  const bool worth = size >= kWorthCopying && huge_pages_offered() && size < available_bytes() / 2;
  return worth ? Loading::huge : Loading::mapped;
}

// MPOL_INTERLEAVE over all nodes; a machine of one node, or a container that forbids it, leaves the pages where they would be.
void spread(void* data, uint64_t size) {
  unsigned long nodes = ~0UL;
  syscall(SYS_mbind, data, size, 3, &nodes, sizeof nodes * 8, 0U);
}

class Descriptor {
 public:
  explicit Descriptor(int number) : number_(number) {}
  ~Descriptor() {
    if (number_ >= 0) close(number_);
  }
  int number() const { return number_; }

 private:
  int number_;
};

}  // namespace

Loading loading_of(const std::string& name) {
  if (name.empty() || name == "auto") return Loading::automatic;
  if (name == "mapped") return Loading::mapped;
  if (name == "populated") return Loading::populated;
  if (name == "huge") return Loading::huge;
  throw Error("tables are loaded auto, mapped, populated or huge, not '" + name.substr(0, 40) + "'");
}

const char* name_of(Loading loading) {
  switch (loading) {
    case Loading::mapped: return "mapped";
    case Loading::populated: return "populated";
    case Loading::huge: return "huge";
    default: return "auto";
  }
}

MappedFile::MappedFile(const std::string& path, Loading loading, bool interleave) : path_(path), loading_(loading) {
  const Descriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (file.number() < 0) throw Error(path + " can't be read: " + std::strerror(errno));
  struct stat status{};
  if (fstat(file.number(), &status) != 0 || !S_ISREG(status.st_mode)) throw Error(path + " is no file");
  size_ = static_cast<uint64_t>(status.st_size);
  if (size_ == 0) throw Error(path + " is empty");
  if (loading_ == Loading::automatic) loading_ = choose(size_);
  if (loading_ == Loading::mapped) resident_share_ = std::min(1.0, kSpared * static_cast<double>(available_bytes()) / static_cast<double>(size_));
  if (loading_ == Loading::huge) {
    copy(file.number(), interleave);
  } else {
    map(file.number(), loading_ == Loading::populated);
  }
}

void MappedFile::map(int file, bool populate) {
  void* data = mmap(nullptr, size_, PROT_READ, MAP_SHARED | (populate ? MAP_POPULATE : 0), file, 0);
  if (data == MAP_FAILED) throw Error(path_ + " can't be mapped: " + std::strerror(errno));
  madvise(data, size_, MADV_RANDOM);  // a row says nothing of those beside it: reading ahead would fill memory with what nobody asked for
  data_ = static_cast<const char*>(data);
  guard_ = guard(data_, size_);
}

void MappedFile::copy(int file, bool interleave) {
  const uint64_t whole = (size_ + kHugePage - 1) / kHugePage * kHugePage;
  void* data = mmap(nullptr, whole + kHugePage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (data == MAP_FAILED) throw Error(path_ + " can't be copied into memory: " + std::strerror(errno));
  // A huge page begins at a multiple of its size: what is over on both sides goes back.
  const auto start = reinterpret_cast<uintptr_t>(data), aligned = (start + kHugePage - 1) / kHugePage * kHugePage;
  if (aligned > start) munmap(data, aligned - start);
  munmap(reinterpret_cast<void*>(aligned + whole), start + kHugePage - aligned);
  char* to = reinterpret_cast<char*>(aligned);
  data_ = to;
  if (interleave) spread(to, whole);
  madvise(to, whole, MADV_HUGEPAGE);
  uint64_t done = 0;
  while (done < size_) {
    const ssize_t count = pread(file, to + done, std::min<uint64_t>(size_ - done, 64 << 20), static_cast<off_t>(done));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) {
      munmap(to, whole);
      data_ = nullptr;
      throw Error(path_ + (count == 0 ? " became shorter while it was read" : std::string(" can't be read: ") + std::strerror(errno)));
    }
    done += static_cast<uint64_t>(count);
  }
  mprotect(to, whole, PROT_READ);
}

MappedFile::~MappedFile() {
  if (data_ == nullptr) return;
  release(guard_);
  const uint64_t size = loading_ == Loading::huge ? (size_ + kHugePage - 1) / kHugePage * kHugePage : size_;
  munmap(const_cast<char*>(data_), size);
}

Warming::~Warming() {
  ending_ = true;
  if (thread_.joinable()) thread_.join();
}

void Warming::begin(std::vector<std::pair<const char*, uint64_t>> ranges) {
  if (ranges.empty()) return;
  thread_ = std::thread([this, ranges = std::move(ranges)] {
    for (const auto& [data, size] : ranges) {
      const uintptr_t start = reinterpret_cast<uintptr_t>(data) & ~(kPage - 1), end = reinterpret_cast<uintptr_t>(data) + size;
      for (uintptr_t at = start; at < end && !ending_; at += kWarmed) {
        const size_t part = std::min<uint64_t>(kWarmed, end - at);
        // Linux before 5.14 doesn't wait for the pages; then a read of each does.
        if (madvise(reinterpret_cast<void*>(at), part, kPopulateRead) == 0) continue;
        madvise(reinterpret_cast<void*>(at), part, MADV_WILLNEED);
        for (size_t page = 0; page < part; page += kPage) static_cast<void>(*reinterpret_cast<const volatile char*>(at + page));
      }
    }
  });
}

void ask_disk(const char* data, size_t size) {
  const uintptr_t first = reinterpret_cast<uintptr_t>(data) & ~(kPage - 1), last = reinterpret_cast<uintptr_t>(data) + size;
  madvise(reinterpret_cast<void*>(first), last - first, MADV_WILLNEED);
}

bool MappedFile::broken() const { return guard_ >= 0 && guarded[guard_].broken.load(std::memory_order_relaxed); }

}  // namespace recsplit
