#include "fovea/base/cpu_count.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

namespace fovea {
namespace cpu_count_test {

// A folder that stands in for / with a /sys and a /proc of our making.
class FakeMachine {
 public:
  FakeMachine()
      : root_(::testing::TempDir() + "fovea_cpu_count_" +
              ::testing::UnitTest::GetInstance()->current_test_info()->name()) {
    std::filesystem::remove_all(root_);
  }
  ~FakeMachine() { std::filesystem::remove_all(root_); }
  void write(const std::string& path, const std::string& content) const {
    std::filesystem::create_directories(std::filesystem::path(root_ + path).parent_path());
    std::ofstream(root_ + path) << content << "\n";
  }
  void add_cpu(int cpu, const std::string& siblings) const {
    write("/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/core_cpus_list", siblings);
  }
  int cores(const std::vector<int>& cpus) const { return physical_cores(cpus, root_); }

 private:
  std::string root_;
};

TEST(CpuCount, TwoHyperThreadsAreOneCore) {
  const FakeMachine machine;
  machine.add_cpu(0, "0,2");
  machine.add_cpu(1, "1,3");
  machine.add_cpu(2, "0,2");
  machine.add_cpu(3, "1,3");
  EXPECT_EQ(machine.cores({0, 1, 2, 3}), 2);
  EXPECT_EQ(machine.cores({0, 2}), 1);
}

TEST(CpuCount, WithoutTopologyEveryCpuIsACore) { EXPECT_EQ(FakeMachine().cores({0, 5, 7}), 3); }

TEST(CpuCount, AQuotaOfTheGroupOrOfOneAroundItLimitsTheCoresAndIsRoundedUp) {
  const FakeMachine machine;
  machine.write("/proc/self/cgroup", "0::/slice/task");
  EXPECT_EQ(machine.cores({0, 1, 2, 3}), 4);
  machine.write("/sys/fs/cgroup/slice/task/cpu.max", "max 100000");
  EXPECT_EQ(machine.cores({0, 1, 2, 3}), 4);
  machine.write("/sys/fs/cgroup/slice/cpu.max", "250000 100000");
  EXPECT_EQ(machine.cores({0, 1, 2, 3}), 3);
  machine.write("/sys/fs/cgroup/cpu.max", "5000 100000");
  EXPECT_EQ(machine.cores({0, 1, 2, 3}), 1);
}

TEST(CpuCount, AVersionOneQuotaCountsAndMinusOneIsNone) {
  const FakeMachine machine;
  machine.write("/proc/self/cgroup", "4:cpu,cpuacct:/task");
  machine.write("/sys/fs/cgroup/cpu/task/cpu.cfs_period_us", "100000");
  machine.write("/sys/fs/cgroup/cpu/task/cpu.cfs_quota_us", "-1");
  EXPECT_EQ(machine.cores({0, 1, 2}), 3);
  machine.write("/sys/fs/cgroup/cpu/task/cpu.cfs_quota_us", "200000");
  EXPECT_EQ(machine.cores({0, 1, 2}), 2);
}

TEST(CpuCount, ThisProcessMayUseACpu) { EXPECT_FALSE(usable_cpus().empty()); }

}  // namespace cpu_count_test
}  // namespace fovea
